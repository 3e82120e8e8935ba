"""What the emails about another email of somebody tell: one goes to the address of before, one to the new one."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from notifications import emails
from notifications.emails import ACTOR, Actor, Kind, NeedlessError, acts_of
from notifications.models import Owed
from notifications.phrases import link
from notifications.placeholders import Placeholder, Value
from users.models import User

OLD_EMAIL, NEW_EMAIL = "OLD_EMAIL", "NEW_EMAIL"  # each about an AdminAction


def register() -> None:
    """Make the kinds known to the outbox."""
    for kind in (OLD_EMAIL_KIND, NEW_EMAIL_KIND):
        emails.register(kind)


@dataclass(frozen=True)
class EmailFacts:
    """Who gave somebody another email, and which of both this is: the one that is written to."""

    actor: Actor | None
    to: str


def old_email_facts(notifications: Sequence[Owed]) -> dict[int, Hashable]:
    """Return the email that each user had before another was given to them, by notification id, in two queries."""
    return dict(_email_facts(notifications, "before"))


def new_email_facts(notifications: Sequence[Owed]) -> dict[int, Hashable]:
    """Return the email that was given to each user, by notification id, in three queries. Who has a third one by now is told of
    that one.
    """
    users = User.objects.filter(id__any={n.user_id for n in notifications})
    has, given = dict(users.values_list("pk", "email")), _email_facts(notifications, "after")
    return {
        n.id: given[n.id] if n.is_fixed or given[n.id].to == has.get(n.user_id) else NeedlessError()
        for n in notifications
        if n.id in given
    }


def _email_facts(notifications: Sequence[Owed], when: str) -> dict[int, EmailFacts]:
    """Return which email each user had before or after it was changed, as far as the record has its words still.

    Who changed it is not told of who changed their own: nobody knows who reads it where they were written to before.
    """
    acts, actors = acts_of(notifications)
    return {
        n.id: EmailFacts(actors.get(act.actor_id or 0) if act.actor_id != n.user_id else None, act.words[when]["email"])
        for n in notifications
        if (act := acts.get(n.about)) is not None and act.words
    }


def new_email_values(facts: EmailFacts) -> dict[str, Value]:
    """Return what is said to a new email in the language that is active."""
    address = settings.CONSOLE_URL + reverse("account_reset_password")
    return {"email": Value.plain(facts.to), "link": link(address, gettext("Choose a new password"))}


def _email_sample(reader: User, variant: str, now: datetime) -> EmailFacts:
    return EmailFacts(Actor(reader.name, reader.email), reader.email)


OLD_EMAIL_KIND = Kind(
    name=OLD_EMAIL,
    label=_("Change of email, to the old address"),
    lane=0,
    template="old_email",
    names_reader=False,
    facts=old_email_facts,
    values=lambda facts: {"old_email": Value.plain(facts.to)},
    sample=_email_sample,
    placeholders=(ACTOR, Placeholder("old_email", _("The email address that the reader had"))),
)
NEW_EMAIL_KIND = Kind(
    name=NEW_EMAIL,
    label=_("Change of email, to the new address"),
    lane=0,
    template="new_email",
    facts=new_email_facts,
    values=new_email_values,
    sample=_email_sample,
    placeholders=(
        ACTOR,
        Placeholder("email", _("The email address that the reader has now"), is_needed=True),
        Placeholder("link", _("The page on which one asks for a link to choose a password"), is_block=True, is_needed=True),
    ),
)
