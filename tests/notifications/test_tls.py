"""A mail server that speaks TLS is given emails only when somebody this machine trusts vouches for it."""

import ipaddress
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.utils import timezone

from notifications.models import MailServer, Notification, State
from tests.factories import make_user
from tests.mail import ScriptedServer
from tests.notifications.test_delivery import deliver, owe

pytestmark = pytest.mark.django_db


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
    mailer = settings.MAILERS["default"]
    settings.MAILERS = {"default": {**mailer, "OPTIONS": {**mailer["OPTIONS"], "use_ssl": True}}}
    return smtp_script


def test_one_that_nobody_vouches_for_is_given_nothing(over_tls: ScriptedServer) -> None:
    owe(make_user())

    deliver()

    assert over_tls.messages == []
    assert Notification.objects.get().state == State.DEFERRED
    assert "certificate verify failed" in MailServer.objects.get().last_words


def test_one_whose_certificate_is_trusted_is(
    over_tls: ScriptedServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    owe(make_user(), make_user())

    deliver()

    assert len(over_tls.messages) == 2
    assert set(Notification.objects.values_list("state", flat=True)) == {State.SENT}
