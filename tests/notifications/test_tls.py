"""A mail server that speaks TLS is given emails only when somebody this machine trusts vouches for it."""

import ipaddress
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.utils import timezone

from notifications.models import MailServer, Notification, State
from tests.factories import make_user
from tests.mail import ScriptedServer, deliver_to
from tests.notifications.test_delivery import deliver, owe
from tests.processes import free_port

pytestmark = pytest.mark.django_db
NOT_TRUSTED = "The mail server's certificate is not trusted: self-signed certificate."


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a key and a certificate of its own for 127.0.0.1."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(timezone.now() - timedelta(days=1)).not_valid_after(timezone.now() + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = tmp_path / "mail.pem"
    path.write_bytes(
        made.sign(key, hashes.SHA256()).public_bytes(pem) + key.private_bytes(pem, private, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def over_tls(smtp_script: ScriptedServer, certificate: Path, settings: Any) -> ScriptedServer:
    """Return a mail server that speaks TLS from the start, which senders are told to do too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    smtp_script.speak_tls(context)
    ask_for(settings, "use_ssl")
    return smtp_script


def ask_for(settings: Any, how: str) -> None:
    """Tell senders how to secure the connection."""
    mailer = settings.MAILERS["default"]
    settings.MAILERS = {"default": {**mailer, "OPTIONS": {**mailer["OPTIONS"], how: True}}}


class Kept:
    """What a server was given, each with whether that was over TLS."""

    def __init__(self) -> None:
        self.messages: list[tuple[list[str], bool]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.messages.append((envelope.rcpt_tos, session.ssl is not None))
        return "250 kept"


@pytest.fixture
def by_starttls(certificate: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """Run a mail server that takes emails only after STARTTLS, which senders are told to ask for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    kept = Kept()
    server = Controller(kept, "127.0.0.1", int(free_port()), tls_context=context, require_starttls=True)
    server.start()
    deliver_to(settings, monkeypatch, server.port)
    ask_for(settings, "use_tls")
    yield kept
    server.stop()


def test_one_that_nobody_vouches_for_is_given_nothing(over_tls: ScriptedServer) -> None:
    owe(make_user())

    deliver()

    assert over_tls.messages == []
    assert Notification.objects.get().state == State.DEFERRED
    assert MailServer.objects.get().last_words == NOT_TRUSTED


def test_one_whose_certificate_is_trusted_is(
    over_tls: ScriptedServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    owe(make_user(), make_user())

    deliver()

    assert len(over_tls.messages) == 2
    assert set(Notification.objects.values_list("state", flat=True)) == {State.SENT}


def test_one_with_the_certificate_of_another_host_is_given_nothing(
    over_tls: ScriptedServer, certificate: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    mailer = settings.MAILERS["default"]
    settings.MAILERS = {"default": {**mailer, "OPTIONS": {**mailer["OPTIONS"], "host": "localhost"}}}
    owe(make_user())

    deliver()

    assert over_tls.messages == []
    assert "Hostname mismatch" in MailServer.objects.get().last_words


def test_starttls_is_spoken_before_anything_is_given(
    by_starttls: Kept, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    users = [make_user(), make_user()]
    owe(*users)

    deliver()

    assert sorted(by_starttls.messages) == sorted(([user.email], True) for user in users)
    assert set(Notification.objects.values_list("state", flat=True)) == {State.SENT}


def test_one_that_nobody_vouches_for_is_given_nothing_after_starttls(by_starttls: Kept) -> None:
    owe(make_user())

    deliver()

    letter = Notification.objects.get()
    assert by_starttls.messages == []
    assert (letter.state, letter.last_words, letter.attempts) == (State.DEFERRED, NOT_TRUSTED, 0)
    assert MailServer.objects.get().last_words == NOT_TRUSTED


def test_one_that_does_not_offer_starttls_is_given_nothing_in_the_clear(smtp_script: ScriptedServer, settings: Any) -> None:
    ask_for(settings, "use_tls")
    owe(make_user())

    deliver()

    assert smtp_script.messages == []
    assert Notification.objects.get().state == State.DEFERRED
    assert "STARTTLS extension not supported" in MailServer.objects.get().last_words
