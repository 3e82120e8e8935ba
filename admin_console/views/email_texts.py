"""What emails say and how they look: an overview, an editor for the words of each, and the organisation's identity."""

from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.csp import csp_override
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from admin_console.access import Request, View, requires
from admin_console.email_forms import IdentityForm, WordsForm
from admin_console.uploads import OneSmallFile
from admin_console.views.changes import see_other
from admin_console.views.notifications import EMAIL_CSP, FRAMED_CSP, data_url
from notifications import customising
from notifications.emails import KINDS, Kind, Message, own_words
from notifications.markup import as_text
from notifications.mime import LOGO_ID
from notifications.models import Wording
from notifications.tasks import ring
from notifications.wordings import Words, identity, mail_identity, newest, versions
from users.models import Capability
from users.typed import number

NONE = "-"  # how the address of a page writes the variant that is none
LANGUAGES = dict(settings.LANGUAGES)


@dataclass(frozen=True)
class Subject:
    """Which words a page is about."""

    kind: Kind
    variant: str
    language: str
    name: str  # of the kind, and of its variant

    @classmethod
    def of(cls, kind: str, variant: str, language: str) -> "Subject":
        """Return what the address of a page names. Raises Http404."""
        found, variant = KINDS.get(kind.upper()), "" if variant == NONE else variant
        if found is None or language not in LANGUAGES or variant not in (variants := found.variants()):
            raise Http404
        name = f"{found.label}: {variants[variant]}" if variants[variant] else str(found.label)
        return cls(found, variant, language, name)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.kind.name, self.variant, self.language

    @property
    def path(self) -> tuple[str, str, str]:
        """The arguments of the addresses of its pages."""
        return self.kind.name.lower(), self.variant or NONE, self.language

    @property
    def url(self) -> str:
        return reverse("email_words", args=self.path)

    @property
    def preview_url(self) -> str:
        return reverse("preview_email", args=self.path)

    @property
    def language_name(self) -> str:
        return LANGUAGES[self.language]

    def own(self) -> Words:
        """Return the console's own words."""
        return own_words(self.kind, self.variant, self.language, names_actor=identity().names_actor)


@require_GET
@requires(Capability.CUSTOMISE_EMAILS)
def email_texts(request: Request) -> HttpResponse:
    """List every email, and in which languages an admin has written it."""
    written = newest(KINDS)
    rows = []
    for kind in sorted(KINDS.values(), key=lambda kind: (kind.lane, kind.name)):
        for variant in kind.variants():
            subjects = [Subject.of(kind.name, variant or NONE, language) for language in LANGUAGES]
            rows.append((subjects[0].name, [(subject, written.get(subject.key)) for subject in subjects]))
    return render(request, "notifications/email_texts.html", {"rows": rows, "identity": identity()})


@require_http_methods(["GET", "POST"])
@requires(Capability.CUSTOMISE_EMAILS)
@csp_override(FRAMED_CSP)
def email_words(request: Request, kind: str, variant: str, language: str) -> HttpResponse:
    """Show the words of an email in an editor; save them, or send a test. Refused, all that was written stays."""
    subject = Subject.of(kind, variant, language)
    if request.method == "GET":
        return _editor(request, subject, _fresh(request, subject))
    form = WordsForm(request.POST, actor=request.user)
    if form.is_valid():
        try:
            if request.POST.get("do") != "test":
                _save(request, subject, form)
                return see_other(subject.url)
            words = customising.checked(subject.kind, **form.words)
            where: dict[str, Any] = {"kind": subject.kind, "variant": subject.variant, "language": subject.language}
            customising.send_test(actor=request.user, about=form.cleaned_data["about"], words=words, now=now(), **where)
            ring()
            messages.success(request, _("A test is on its way to %(email)s.") % {"email": request.user.email})
        except customising.Refused as refused:
            for field, mistake in refused.mistakes.items():
                form.fail(field, mistake)
        except customising.WrittenMeanwhile as error:
            kept = _("What you wrote is still here: compare it, then save it as the next version.")
            form.fail("", f"{error} {kept}")
            form.data = {**request.POST.dict(), "after": _last(subject)}
    return _editor(request, subject, form, status=422 if form.errors else 200)


@require_POST
@requires(Capability.CUSTOMISE_EMAILS)
def restore_words(request: Request, kind: str, variant: str, language: str) -> HttpResponse:
    """Let an earlier version, or the console's own words, count again."""
    subject = Subject.of(kind, variant, language)
    try:
        if told := request.POST.get("number", ""):
            version = get_object_or_404(versions(*subject.key), number=number(told))
            customising.restore(actor=request.user, version=version, now=now())
        else:
            customising.use_own_words(
                actor=request.user, kind=subject.kind.name, variant=subject.variant, language=subject.language, now=now()
            )
    except (customising.Refused, customising.WrittenMeanwhile) as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, _("These words count from now on."))
    return see_other(subject.url)


@require_http_methods(["GET", "POST"])
@requires(Capability.CUSTOMISE_EMAILS)
@csp_override(EMAIL_CSP)
@xframe_options_sameorigin
def preview_email(request: Request, kind: str, variant: str, language: str) -> HttpResponse:
    """Show an email with somebody's data: as it is sent now, or in the words that were posted; with their mistakes, these."""
    subject, words, reader = Subject.of(kind, variant, language), None, request.user
    if request.method == "POST":
        form = WordsForm(request.POST, actor=request.user)
        if form.is_valid():
            try:
                words, reader = customising.checked(subject.kind, **form.words), form.cleaned_data["about"]
            except customising.Refused as refused:
                for field, mistake in refused.mistakes.items():
                    form.fail(field, mistake)
        if form.errors:
            return render(request, "notifications/email_mistakes.html", {"form": form})
    message = customising.shown(subject.kind, subject.variant, subject.language, reader=reader, now=now(), words=words)
    if request.GET.get("part") == "text" or request.POST.get("do") == "text":
        return HttpResponse(f"{message.subject}\n\n{message.text}", content_type="text/plain; charset=utf-8")
    return HttpResponse(_with_logo(message))


def taking_a_file(view: View) -> View:
    """Return the view, to which one small file may be posted: it is kept in memory, and read before the token is checked."""
    protected = csrf_protect(view)

    @wraps(view)
    def taking(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        request.upload_handlers = [OneSmallFile(request, most=customising.MOST_LOGO)]
        return protected(request, *args, **kwargs)

    return csrf_exempt(taking)


@taking_a_file
@require_http_methods(["GET", "POST"])
@requires(Capability.CUSTOMISE_EMAILS)
@csp_override(FRAMED_CSP)
def edit_identity(request: Request) -> HttpResponse:
    """Show how the organisation shows itself in emails; take another way."""
    form = IdentityForm(request.POST, request.FILES) if request.method == "POST" else IdentityForm.of(mail_identity())
    if request.method == "POST" and form.is_valid():
        try:
            customising.save_identity(actor=request.user, now=now(), **form.chosen)
            messages.success(request, _("Emails look like this from now on."))
            return see_other("mail_identity")
        except customising.Refused as refused:
            for field, mistake in refused.mistakes.items():
                form.fail(field, mistake)
    own = identity()
    context = {"form": form, "own": own, "logo": data_url(own.logo), "preview": Subject.of("CHANGE", NONE, "en").preview_url}
    return render(request, "notifications/mail_identity.html", context, status=422 if form.errors else 200)


def _save(request: Request, subject: Subject, form: WordsForm) -> None:
    made = customising.save_words(
        actor=request.user,
        kind=subject.kind.name,
        variant=subject.variant,
        language=subject.language,
        after=form.cleaned_data["after"],
        now=now(),
        **form.words,
    )
    said = _("Version %(number)s is saved and counts from now on.") % {"number": made.number}
    if made.html != form.words["html"].replace("\r\n", "\n").strip():
        said += " " + _("What emails cannot hold was left out of the HTML.")
    messages.success(request, said)


def _fresh(request: Request, subject: Subject) -> WordsForm:
    """Return the editor's form with the words that count now."""
    last = versions(*subject.key).first()
    words = subject.own() if last is None or last.is_own else Words(last.subject, last.html, last.text)
    kept = {"subject": words.subject, "html": words.html, "text": words.text, "after": last.number if last else 0}
    return WordsForm(initial={**kept, "about": request.user.email}, actor=request.user)


def _editor(request: Request, subject: Subject, form: WordsForm, *, status: int = 200) -> HttpResponse:
    kept: list[Wording] = list(versions(*subject.key).select_related("made_by", "restores")[:50])
    others = [(Subject.of(*subject.path[:2], language), language == subject.language) for language in LANGUAGES]
    own = subject.own()
    context = {"subject": subject, "form": form, "versions": kept, "others": others, "own": own, "own_text": as_text(own.html)}
    return render(request, "notifications/email_words.html", context, status=status)


def _last(subject: Subject) -> int:
    last = versions(*subject.key).first()
    return last.number if last else 0


def _with_logo(message: Message) -> str:
    return message.html.replace(f"cid:{LOGO_ID}", data_url(identity().logo))
