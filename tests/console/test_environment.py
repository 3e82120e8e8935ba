"""A wrong environment variable stops the start with its name, what was found and what is expected; a secret is never shown."""

import os
import re
import runpy
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured
from kombu.connection import Connection

from admin_console import env
from admin_console.provision import GRANTS

ROOT = Path(__file__).parent.parent.parent
SECRET = "s3cret-that-nobody-may-see"
GOOD_KEY = "k8#Lw0pZ!q2Vn5Rt7Yx1Cb3Md6Fg9Hj4Ks0Pw8Qe2Ru5To7Ia1"


def read_settings() -> dict[str, Any]:
    """Return the settings as the present environment makes them."""
    return runpy.run_path(str(ROOT / "admin_console" / "settings.py"))


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CONSOLE_MODE", "prod", "'prod' is not valid; expected one of local, production"),
        ("PORT", "eighty", "'eighty' is not valid; expected a whole number of at least 1 and at most 65535"),
        ("PORT", "70000", "'70000' is not valid"),
        ("EMAIL_USE_TLS", "maybe", "'maybe' is not valid; expected one of 1, true, yes, on, 0, false, no, off"),
        ("EMAIL_PORT", "-1", "'-1' is not valid"),
        ("DEFAULT_FROM_EMAIL", "nobody", "'nobody' is not valid; expected an email address"),
        ("CONSOLE_URL", "console.example.com", "expected https://host"),
        ("DATABASE_URL", "mysql://localhost/console", "'mysql://localhost/console' is not valid; expected postgresql://"),
        ("DATABASE_URL", "postgresql://localhost", "is not valid; expected postgresql://"),
        ("DATABASE_URL", "postgresql://localhost:x/console", "is not valid; expected postgresql://"),
        ("DATABASE_OWNER_URL", "postgresql://localhost/console?colour=red", "is not valid; expected postgresql://"),
        ("REDIS_URL", "http://localhost", "'http://localhost' is not valid; expected redis://"),
        ("REDIS_URL", "localhost:6379", "is not valid; expected redis://"),
        ("INACTIVE_AFTER_DAYS", "45", "'45' is not valid; expected one of 30, 60, 90"),
        ("DEFAULT_LANGUAGE", "FR", "'FR' is not valid; expected one of en, fr, it, de, es, pt, nl"),
        ("BULK_BATCH_SIZE", "5.5", "'5.5' is not valid; expected a whole number"),
        ("TRUSTED_PROXY_COUNT", "many", "'many' is not valid"),
    ],
)
def test_a_malformed_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured) as error:
        read_settings()
    assert str(error.value).startswith(f"{name}=")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["EMAIL_BACKEND", "ANYMAIL", "ANYMAIL_POSTMARK_SERVER_TOKEN", "MAILERS"])
def test_another_way_to_send_emails_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(ImproperlyConfigured) as error:
        read_settings()
    assert str(error.value).startswith(f"{name} is set and counts for nothing here; emails go by SMTP")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://console:{SECRET}@db.example.com/console"),
        ("DATABASE_URL", f"postgresql://console:{SECRET}/console"),
        ("DATABASE_URL", f"postgresql://db.example.com/console?password={SECRET}"),
        ("DATABASE_URL", f"console:{SECRET}@db.example.com"),
        ("REDIS_URL", f"http://:{SECRET}@redis.example.com"),
        ("REDIS_URL", f":{SECRET}"),
    ],
)
def test_a_secret_in_a_malformed_value_is_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured) as error:
        read_settings()
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(("given", "spoken"), [("", "en"), ("it", "it")])
def test_the_organisation_has_a_language(monkeypatch: pytest.MonkeyPatch, given: str, spoken: str) -> None:
    monkeypatch.setenv("DEFAULT_LANGUAGE", given)
    assert read_settings()["LANGUAGE_CODE"] == spoken


def test_any_value_can_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{GOOD_KEY}\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "key"))
    assert read_settings()["SECRET_KEY"] == GOOD_KEY


def test_a_file_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "missing"))
    with pytest.raises(ImproperlyConfigured, match=r"SECRET_KEY_FILE=.*missing.*expected the path of a file that can be read"):
        read_settings()


def test_a_value_and_its_file_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY and SECRET_KEY_FILE are both set") as error:
        read_settings()
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ALLOWED_HOSTS": "console.example.com"}, "SECRET_KEY is empty"),
        ({"SECRET_KEY": GOOD_KEY}, "ALLOWED_HOSTS is empty"),
        ({"ALLOWED_HOSTS": "console.example.com", "SECRET_KEY": SECRET}, "SECRET_KEY has 26 characters; expected at least 50"),
    ],
)
def test_production_wants_a_key_and_hosts(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: str) -> None:
    monkeypatch.setenv("CONSOLE_MODE", "production")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured, match=expected) as error:
        read_settings()
    assert SECRET not in str(error.value)


def test_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSOLE_MODE", "production")
    monkeypatch.setenv("SECRET_KEY", GOOD_KEY)
    monkeypatch.setenv("ALLOWED_HOSTS", "console.example.com")
    found = read_settings()
    assert not found["DEBUG"]
    assert not found["MAIL_SINK"]
    assert found["SESSION_COOKIE_SECURE"]
    assert found["CSRF_COOKIE_SECURE"]
    assert found["CONSOLE_URL"] == "https://console.example.com"


@pytest.mark.parametrize(
    ("host", "address"), [("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000"), ("fe80::1", "http://[fe80::1]:8000")]
)
def test_the_address_is_one_that_can_be_opened(monkeypatch: pytest.MonkeyPatch, host: str, address: str) -> None:
    monkeypatch.setenv("HOST", host)

    assert read_settings()["CONSOLE_URL"] == address


def test_a_server_of_the_operators_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://some%40one:p%2Fw@db.example.com:6432/console?sslmode=require")
    monkeypatch.setenv("REDIS_URL", "rediss://:pw@redis.example.com:6380/2")
    found = read_settings()
    default = found["DATABASES"]["default"]
    assert [default[key] for key in ("USER", "PASSWORD", "HOST", "PORT", "NAME")] == [
        "some@one",
        "p/w",
        "db.example.com",
        6432,
        "console",
    ]
    assert default["OPTIONS"]["sslmode"] == "require"
    assert found["DATABASES"]["owner"]["HOST"] == "db.example.com"
    assert found["CELERY_BROKER_URL"] == "rediss://:pw@redis.example.com:6380/2"


@pytest.mark.parametrize("more", ["", "?ssl_ca_certs=/etc/our-ca.pem"])
def test_a_broker_over_tls_has_to_prove_who_it_is(monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    monkeypatch.setenv("REDIS_URL", f"rediss://:pw@redis.example.com:6380/2{more}")
    found = read_settings()

    asked = redis.SSLConnection(**Connection(found["CELERY_BROKER_URL"], ssl=found["CELERY_BROKER_USE_SSL"]).ssl)

    assert (asked.cert_reqs, asked.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert asked.ca_certs == ("/etc/our-ca.pem" if more else None)


def test_a_mail_server_takes_the_place_of_the_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings()["MAIL_SINK"]
    monkeypatch.setenv("EMAIL_HOST", "mail.example.com")
    monkeypatch.setenv("EMAIL_USE_TLS", "yes")
    found = read_settings()
    assert not found["MAIL_SINK"]
    assert found["MAILERS"]["default"]["OPTIONS"] | {"username": "", "password": ""} == {
        "host": "mail.example.com",
        "port": 587,
        "username": "",
        "password": "",
        "use_tls": True,
        "use_ssl": False,
        "timeout": 15,
    }


def test_a_command_stops_with_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "admin_console.settings", "PORT": "eighty"}
    command = [sys.executable, str(ROOT / "manage.py"), "run_console"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "PORT='eighty' is not valid; expected a whole number of at least 1 and at most 65535.\n"


def test_empty_means_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    monkeypatch.setenv("PORT_FILE", "")
    assert env.number("PORT", 8000) == 8000


def names_read() -> set[str]:
    files = (ROOT / "admin_console").glob("*.py")
    return {name for file in files for name in re.findall(r'\benv\.\w+\(\s*"([A-Z_]+)"', file.read_text())}


def test_every_variable_is_documented() -> None:
    table = (ROOT / "docs" / "configuration.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE)) == names_read()


def test_operators_are_shown_the_roles_that_the_launcher_makes() -> None:
    shown = (ROOT / "docs" / "operations.md").read_text()
    for grant in GRANTS:
        assert grant.format(owner="console_owner", role="console") + ";" in shown
