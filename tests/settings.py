"""The console's settings for tests: nothing kept in the work tree, nothing taken from the environment, quick passwords."""

import os
import re
import shutil
import tempfile
from pathlib import Path

# Temporary files are kept in memory where there is room: databases are cloned by the hundred, on a disk for ten times the price.
_memory = Path("/dev/shm")
_takes_them = "TMPDIR" not in os.environ and os.access(_memory, os.W_OK) and not os.statvfs(_memory).f_flag & os.ST_NOEXEC
if _takes_them and shutil.disk_usage(_memory).free > 4 * 1024**3:
    tempfile.tempdir = os.environ["TMPDIR"] = str(_memory)

# The first process of a test run names the folder, the others (pytest-xdist's workers) inherit it; see conftest.py.
_home = os.environ.get("TEST_HOME") or f"{tempfile.gettempdir()}/admin-console-test-{os.getpid()}"
for _name in re.findall(
    r'env\.\w+\(\s*"([A-Z_]+)"', (Path(__file__).parent.parent / "admin_console" / "settings.py").read_text()
):
    os.environ.pop(_name, None)
    os.environ.pop(f"{_name}_FILE", None)
os.environ["TEST_HOME"] = os.environ["ADMIN_CONSOLE_HOME"] = _home
os.environ["SECRET_KEY"] = "only for tests"
os.environ["DATABASE_URL"] = "postgresql://console@/none?host=/nowhere"
os.environ["DATABASE_OWNER_URL"] = "postgresql://console_owner@/none?host=/nowhere"

from admin_console.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Without a broker publishing is an instant no-op for those who look; the fixture `broker` brings a real one.
CELERY_BROKER_URL = "memory://"

# Pages are tested without collecting static files first.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
