"""How to start with a product, in a few steps: what the onboarding emails say in the console's own words."""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

SUPPORT = "https://support.goto.com/"  # an organisation that knows a better page says so in its own words


@dataclass(frozen=True)
class Guide:
    """How to start with a product: what it is for, the first steps, where to read more (nothing when empty)."""

    purpose: str | Promise
    steps: tuple[str | Promise, ...]
    link: str = ""


GUIDES = {
    "meeting": Guide(
        _("With GoTo Meeting you meet online: everyone sees the same screen and each other, from a browser or a phone."),
        (
            _("Sign in with your work email address and choose “Meet now” to try it alone: check your microphone and camera."),
            _("Schedule your first meeting and send the invitation: your guests join with its link and need no account."),
            _("In the meeting choose “Share screen” to show one window or all of it, and hand control to a guest if you like."),
        ),
        SUPPORT,
    ),
    "webinar": Guide(
        _("With GoTo Webinar you present to a large audience, who registers beforehand and can ask you questions."),
        (
            _("Sign in with your work email address and schedule a webinar: its registration page is made for you."),
            _("Add co-organisers and panelists, then start a practice session: nobody in the audience sees or hears it."),
            _("Share the registration link. Afterwards the reports say who came, who stayed, and what they asked."),
        ),
        SUPPORT,
    ),
    "training": Guide(
        _("With GoTo Training you teach a class online, with materials, tests and a catalogue of your courses."),
        (
            _("Sign in with your work email address, create a training and upload its materials: learners get them beforehand."),
            _("Write a short test or a poll: you can start it during the session, and see the answers at once."),
            _("Publish the training in your catalogue, or send its registration link to the learners yourself."),
        ),
        SUPPORT,
    ),
    "openvoice": Guide(
        _("With OpenVoice you hold conference calls by telephone, at any time and without booking."),
        (
            _("Sign in with your work email address: your conference room number and your organiser PIN are on the first page."),
            _("Give your guests a dial-in number and the room number. Keep the PIN to yourself: with it you start the call."),
            _("During a call you can mute everyone, lock it or record it with keys of your telephone: the help lists them."),
        ),
        SUPPORT,
    ),
}
ANY_PRODUCT = Guide(
    _("It is ready for you, with the account that you already have."),
    (
        _("Sign in to it with your work email address."),
        _("Look around: its own help tells you what it can do for you."),
        _("Ask an administrator of your organisation if something you need is missing."),
    ),
)


def guide_to(code: str) -> Guide:
    """Return the guide to the product with this code."""
    return GUIDES.get(code, ANY_PRODUCT)
