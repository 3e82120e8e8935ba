"""Every setting of the console, in one file. What an operator may set is read by `env` and documented in the README."""

from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.utils.csp import CSP

from admin_console import env
from admin_console.embedded import kept_secret, sockets_folder

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(env.text("ADMIN_CONSOLE_HOME", str(BASE_DIR / "var"))).resolve()
SOCKETS = sockets_folder(HOME)

PRODUCTION = env.one_of("CONSOLE_MODE", "local", ("local", "production")) == "production"
DEBUG = False
SECRET_KEY = env.text("SECRET_KEY") or ("" if PRODUCTION else kept_secret(HOME / "secret_key"))
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", [] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]"])
for required in ("SECRET_KEY", "ALLOWED_HOSTS"):
    if not globals()[required]:
        raise ImproperlyConfigured(f"{required} is empty; expected a value, because CONSOLE_MODE is production.")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "django_htmx",
    "users",
    "notifications",
    "products",
    "admin_console",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "admin_console.urls"
WSGI_APPLICATION = "admin_console.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# `default` is the console's own role, which owns nothing; `owner` makes and changes tables (`manage.py migrate` uses it).
_database = {"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
DATABASES = {
    "default": {**_database, **env.database("DATABASE_URL", f"postgresql://console@/console?host={SOCKETS}")},
    "owner": {**_database, **env.database("DATABASE_OWNER_URL", f"postgresql://console_owner@/console?host={SOCKETS}")},
}
# The role that migrations take rights from.
CONSOLE_ROLE = DATABASES["default"]["USER"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Celery is a doorbell: see `celery`. Without REDIS_URL the launcher's own Valkey.
CELERY_BROKER_URL = env.broker("REDIS_URL", f"unix://{SOCKETS}/valkey.sock")
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # A killed worker's message comes back after the first, looked at every 5 s: far longer than any task may take.
    "visibility_timeout": 120,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_keepalive": True,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_SOFT_TIME_LIMIT = 40
CELERY_TASK_TIME_LIMIT = 50
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CONCURRENCY = 2
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_BEAT_SCHEDULER = "admin_console.celery:ConsoleScheduler"
# What a crash, a lost message or a lost broker left behind is started again by these. Unread ones expire: they never pile up.
CELERY_BEAT_SCHEDULE = {
    "products": {"task": "products.tasks.sweep", "schedule": 10, "options": {"expires": 10}},
    "notifications": {"task": "notifications.tasks.sweep", "schedule": 5, "options": {"expires": 5}},
}

AUTH_USER_MODEL = "users.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"

LANGUAGE_CODE = "en"
LANGUAGES = [
    ("en", "English"),
    ("fr", "Français"),
    ("it", "Italiano"),
    ("de", "Deutsch"),
    ("es", "Español"),
    ("pt", "Português"),
    ("nl", "Nederlands"),
]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = HOME / "static"

SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:"],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "base-uri": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
}

# How long after the last sign-in a user counts as Inactive.
INACTIVE_AFTER_DAYS = int(env.one_of("INACTIVE_AFTER_DAYS", "30", ("30", "60", "90")))
BULK_BATCH_SIZE = env.number("BULK_BATCH_SIZE", 5_000, least=1, most=50_000)
# Up to this many users a change is finished inside of the request, without the broker.
BULK_AT_ONCE = env.number("BULK_AT_ONCE", 1_000, least=0, most=10_000)
# A change that touches or suspends more users than this asks to type the number (rule B11).
BULK_CONFIRM_ABOVE = env.number("BULK_CONFIRM_ABOVE", 25_000, least=1)
ORGANISATION_NAME = env.text("ORGANISATION_NAME", "Your organisation")
