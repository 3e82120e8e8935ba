"""Every setting of the console, in one file. What an operator may set is read by `env`: docs/configuration.md."""

import ssl
from pathlib import Path
from urllib.parse import quote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.utils.csp import CSP

from admin_console import env
from admin_console.embedded import kept_secret, sockets_folder
from admin_console.logs import logging_settings

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(env.text("ADMIN_CONSOLE_HOME", str(BASE_DIR / "var"))).resolve()
SOCKETS = sockets_folder(HOME)

PRODUCTION = env.one_of("CONSOLE_MODE", "local", ("local", "production")) == "production"
DEBUG = False
STYLEGUIDE = env.flag("STYLEGUIDE", False)  # whether /styleguide/ shows the components
SECRET_KEY = env.text("SECRET_KEY") or ("" if PRODUCTION else kept_secret(HOME / "secret_key"))
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", [] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]"])
for _required in ("SECRET_KEY", "ALLOWED_HOSTS"):
    if not globals()[_required]:
        raise ImproperlyConfigured(f"{_required} is empty; expected a value, because CONSOLE_MODE is production.")
if PRODUCTION and (len(SECRET_KEY) < 50 or len(set(SECRET_KEY)) < 5):
    raise ImproperlyConfigured(f"SECRET_KEY has {len(SECRET_KEY)} characters; expected at least 50, at random.")

# Where the web server listens, and the address by which people reach it (links in emails begin with it).
WEB_HOST = env.text("HOST", "127.0.0.1")
WEB_PORT = env.number("PORT", 8000, least=1, most=65_535)
_reached_as = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(WEB_HOST, f"[{WEB_HOST}]" if ":" in WEB_HOST else WEB_HOST)  # noqa: S104
CONSOLE_URL = env.web_address(
    "CONSOLE_URL",
    f"https://{ALLOWED_HOSTS[0].lstrip('*.') or 'localhost'}" if PRODUCTION else f"http://{_reached_as}:{WEB_PORT}",
)

INSTALLED_APPS = [
    "admin_console.apps.ReadingRoomConfig",
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
    "admin_console.logs.RequestLogMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "admin_console.middleware.CompressMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "admin_console.middleware.LanguageMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "admin_console.middleware.SignedInMiddleware",
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
DATABASES = {
    "default": env.database("DATABASE_URL", f"postgresql://console@/console?host={quote(str(SOCKETS))}"),
    # An operator's server of which we know no owner: then only reading is asked of it.
    "owner": env.database(
        "DATABASE_OWNER_URL", env.text("DATABASE_URL") or f"postgresql://console_owner@/console?host={quote(str(SOCKETS))}"
    ),
}
for _alias, _database in DATABASES.items():
    _database |= {"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
    _database["OPTIONS"] |= {"application_name": "admin console", "connect_timeout": 5}
    if _alias == "default":
        # What a killed process left running ends by itself; nothing here takes minutes.
        _database["OPTIONS"]["options"] = (
            "-c client_connection_check_interval=5s -c idle_in_transaction_session_timeout=5min -c statement_timeout=5min"
        )
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Celery is a doorbell: see `celery`. Without REDIS_URL the launcher's own Valkey.
CELERY_BROKER_URL = env.broker("REDIS_URL", f"unix://{SOCKETS}/valkey.sock")
if CELERY_BROKER_URL.startswith("rediss:"):
    # kombu would ask for no certificate. What the URL says of it (ssl_ca_certs=…) counts instead, and requires one as well.
    CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
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
# What a crash, a lost message or a lost broker left behind is started again by these, which the launcher rings (seconds).
# Unread ones expire: they never pile up.
CELERY_BEAT_SCHEDULE = {
    "products": {"task": "products.tasks.sweep", "schedule": 5, "options": {"expires": 5}},
    "needed": {"task": "products.tasks.owe_again", "schedule": 120, "options": {"expires": 120}},  # of the last ten minutes
    "seal": {"task": "products.tasks.seal", "schedule": 5, "options": {"expires": 5}},
    "notifications": {"task": "notifications.tasks.sweep", "schedule": 5, "options": {"expires": 5}},
    "sessions": {"task": "admin_console.tasks.forget_sessions", "schedule": 3600, "options": {"expires": 3600}},
}

AUTH_USER_MODEL = "users.User"
AUTHENTICATION_BACKENDS = ["admin_console.access.SignInBackend"]
ACCOUNT_ADAPTER = "admin_console.access.SignInAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]  # allauth wants them named; the adapter lets nobody sign up.
ACCOUNT_EMAIL_VERIFICATION = "none"  # addresses come from the organisation
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_SESSION_REMEMBER = True
# Allauth's own notes the email of whom it is about, also one that was changed or erased since they were read.
ACCOUNT_PASSWORD_RESET_TOKEN_GENERATOR = "django.contrib.auth.tokens.PasswordResetTokenGenerator"  # noqa: S105 — a class
# Failed attempts: from one place, on one account from one place (`access` adds the place), and on one account from anywhere.
# The last is for a crowd: a place has 60 an hour, so more than thirty places are needed to keep somebody out, while at 2,000
# an hour nobody guesses twelve characters. A place is an IPv4 address, or an IPv6 network (/64).
# Links to a new password: from one place, and to one address, for anybody may ask for them and each is an email.
ACCOUNT_RATE_LIMITS = {
    "login_failed": "10/m/ip,5/300s/key",
    "login_failed_anywhere": "2000/h/key",
    "reset_password": "20/m/ip,5/h/key",
}
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
CSRF_FAILURE_VIEW = "admin_console.views.errors.form_expired"
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
ACCOUNT_DEFAULT_HTTP_PROTOCOL = CONSOLE_URL.partition(":")[0]
SESSION_COOKIE_AGE = 12 * 60 * 60

CACHES = {"default": {"BACKEND": "admin_console.throttle.ThrottleCache"}}  # only the throttles of the sign-in pages use it

# How many proxies of your own stand before the console: X-Forwarded-Proto and the last so many X-Forwarded-For are believed.
TRUSTED_PROXY_COUNT = env.number("TRUSTED_PROXY_COUNT", 1 if PRODUCTION else 0, least=1 if PRODUCTION else 0, most=10)
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXY_COUNT
if TRUSTED_PROXY_COUNT:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
if PRODUCTION:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = True
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-session", "__Host-csrf"
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = ["^healthz$", "^readyz$"]
    SECURE_HSTS_SECONDS = 365 * 24 * 60 * 60
    # What other names of the same domain do is not ours to decide.
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
CSRF_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_HTTPONLY = True
SESSION_COOKIE_HTTPONLY = True

# Without EMAIL_HOST, `manage.py mail_sink` is the mail server and its Test inbox is shown; never in production.
env.counts_for_nothing(
    "EMAIL_BACKEND(_FILE)?|MAILERS|ANYMAIL(_.*)?",
    "emails go by SMTP: give the SMTP server of your provider as EMAIL_HOST, and its webhook the EMAIL_WEBHOOK_SECRET.",
)
_mail_host = env.text("EMAIL_HOST", "localhost" if PRODUCTION else "")
_mail_tls, _mail_ssl = env.flag("EMAIL_USE_TLS", False), env.flag("EMAIL_USE_SSL", False)
if _mail_tls and _mail_ssl:
    raise ImproperlyConfigured("EMAIL_USE_TLS and EMAIL_USE_SSL are both yes; expected one: STARTTLS, or TLS from the start.")
_mail_port = env.number("EMAIL_PORT", 587 if _mail_tls else 465 if _mail_ssl else 25, least=1, most=65_535)
MAIL_SINK = not _mail_host
MAIL_SINK_ADDRESS = ("127.0.0.1", env.number("MAIL_SINK_PORT", 2525, least=1, most=65_535))
MAILERS = {
    "default": {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "OPTIONS": {
            "host": MAIL_SINK_ADDRESS[0] if MAIL_SINK else _mail_host,
            "port": MAIL_SINK_ADDRESS[1] if MAIL_SINK else _mail_port,
            "username": env.text("EMAIL_HOST_USER"),
            "password": env.text("EMAIL_HOST_PASSWORD"),
            # Either way the server's certificate is verified, against the certificates that this machine trusts.
            "use_tls": _mail_tls and not MAIL_SINK,
            "use_ssl": _mail_ssl and not MAIL_SINK,
            "timeout": env.number("EMAIL_TIMEOUT", 15, least=1, most=30),
        },
    }
}
# At most so many emails a minute, of all senders together; 0: as many as the server takes.
EMAIL_RATE = env.number("EMAIL_RATE", 0, least=0)
# The webhook of a mail provider: "name:password" that it signs in with, and the key that it signs with, if it does.
EMAIL_WEBHOOK_SECRET = env.text("EMAIL_WEBHOOK_SECRET")
if EMAIL_WEBHOOK_SECRET and (":" not in EMAIL_WEBHOOK_SECRET or len(EMAIL_WEBHOOK_SECRET) < 20):
    raise ImproperlyConfigured("EMAIL_WEBHOOK_SECRET is too simple; expected name:password of at least 20 characters.")
# Who signs, and what anymail calls the key.
EMAIL_WEBHOOK_KEYS = {
    "mailersend": "MAILERSEND_SIGNING_SECRET",
    "mailgun": "MAILGUN_WEBHOOK_SIGNING_KEY",
    "mailtrap": "MAILTRAP_TRACKING_SECRET",
    "mandrill": "MANDRILL_WEBHOOK_KEY",
    "postal": "POSTAL_WEBHOOK_KEY",
    "unisender_go": "UNISENDER_GO_API_KEY",
}
_signing_key = env.text("EMAIL_WEBHOOK_SIGNING_KEY")
# Postal's is a public key, in base64, that it also publishes for DKIM: whoever else signs by it may be anybody.
_is_postals = len(_signing_key) > 150 and _signing_key.startswith("MI")
ANYMAIL = {"WEBHOOK_SECRET": EMAIL_WEBHOOK_SECRET} | {
    name: _signing_key for provider, name in EMAIL_WEBHOOK_KEYS.items() if _signing_key and (provider == "postal") == _is_postals
}
_mail_domain = str(urlsplit(CONSOLE_URL).hostname)
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.address(
    "DEFAULT_FROM_EMAIL", f"console@{_mail_domain if ':' not in _mail_domain else 'localhost'}"
)

LOGGING = logging_settings(env.one_of("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")))

LANGUAGES = [
    ("en", "English"),
    ("fr", "Français"),
    ("it", "Italiano"),
    ("de", "Deutsch"),
    ("es", "Español"),
    ("pt", "Português"),
    ("nl", "Nederlands"),
]
# Of whoever has and asks for none of these. (A variable LANGUAGE is there already: it is what the operator's shell speaks.)
LANGUAGE_CODE = env.one_of("DEFAULT_LANGUAGE", "en", [code for code, _name in LANGUAGES])
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = "admin_console.formats"
TIME_ZONE = "UTC"
USE_TZ = True

FILE_UPLOAD_HANDLERS = ["admin_console.uploads.NoUploads"]
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = HOME / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "admin_console.static_files.StaticFiles"},
}

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
# With so many of a hundred seats of a product free, or fewer, whoever may set seats is told.
SEATS_LOW_PERCENT = env.number("SEATS_LOW_PERCENT", 10, least=0, most=100)
# Without a name: that of the invented organisation (admin_console/demo.py).
ORGANISATION_NAME = env.text("ORGANISATION_NAME", ALLOWED_HOSTS[0] if PRODUCTION else "Aldermoor")

# Signs checkpoints of the history (docs/audit.md). Who has it can forge them; so it is not in the database.
HISTORY_KEY = env.text("HISTORY_KEY") or kept_secret(HOME / "history_key", 32)
if len(HISTORY_KEY) < 32:
    raise ImproperlyConfigured(f"HISTORY_KEY has {len(HISTORY_KEY)} characters; expected at least 32, at random.")
HISTORY_CHECKPOINTS = Path(env.text("HISTORY_CHECKPOINTS", str(HOME / "checkpoints.jsonl")))
HISTORY_CHECKPOINT_SECONDS = env.number("HISTORY_CHECKPOINT_SECONDS", 60, least=1)
HISTORY_WEBHOOK = env.https_address("HISTORY_WEBHOOK")
# So many months of the entitlement history are kept at least; 0: for ever. `manage.py drop_history` drops older ones.
HISTORY_KEPT_MONTHS = env.number("HISTORY_KEPT_MONTHS", 0, most=1_200)
# Evidence packs are kept in here for seven days, where web server and worker both reach them; may Support make them?
EVIDENCE_FOLDER = Path(env.text("EVIDENCE_FOLDER", str(HOME / "evidence")))
SUPPORT_MAY_EXPORT = env.flag("SUPPORT_MAY_EXPORT", True)
