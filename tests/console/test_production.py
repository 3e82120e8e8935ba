"""In production mode Django's own deployment checks find nothing, and the console speaks HTTPS only."""

import json
import subprocess
import sys

import pytest

from tests.console.test_environment import GOOD_KEY
from tests.database import Database
from tests.processes import ROOT, environment

PRODUCTION = {
    "CONSOLE_MODE": "production",
    "SECRET_KEY": GOOD_KEY,
    "ALLOWED_HOSTS": "console.example.com",
    "EMAIL_HOST": "mail.example.com",
}
REQUESTS = """
import django
from django.conf import settings
settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
django.setup()
from django.test import Client
client = Client(headers={"host": "console.example.com"})
print(client.get("/accounts/login/").headers["Location"])
answer = client.get("/accounts/login/", headers={"x-forwarded-proto": "https"})
print(answer.status_code, answer.headers["Strict-Transport-Security"])
for cookie in answer.cookies.values():
    print(cookie.key, cookie["secure"], cookie["httponly"], cookie["samesite"])
print(client.get("/healthz").status_code, client.get("/readyz").status_code)
print(Client(headers={"host": "elsewhere.example.com"}).get("/healthz").status_code)
"""


def run(session_database: Database, *command: str) -> subprocess.CompletedProcess[str]:
    everything = environment(**session_database.environment, **PRODUCTION)
    return subprocess.run([sys.executable, *command], env=everything, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_the_deployment_checks_find_nothing(session_database: Database) -> None:
    done = run(session_database, "manage.py", "check", "--deploy", "--fail-level", "INFO")
    assert done.returncode == 0, done.stderr
    assert "no issues (2 silenced)" in done.stdout


@pytest.mark.slow
def test_https_only(session_database: Database) -> None:
    done = run(session_database, "-c", "import sys; sys.path.insert(0, '.')\n" + REQUESTS)
    assert done.stdout.splitlines() == [
        "https://console.example.com/accounts/login/",
        "200 max-age=31536000",
        "__Host-csrf True True Lax",
        "200 200",
        "400",
    ], done.stderr


@pytest.mark.slow
def test_a_warning_is_a_line_of_the_log(session_database: Database) -> None:
    done = run(session_database, "-c", "import django, warnings; django.setup(); warnings.warn('It is old.')")
    (line,) = done.stderr.splitlines()
    assert "It is old." in json.loads(line)["event"]
