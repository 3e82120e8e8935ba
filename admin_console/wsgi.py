"""What the web server calls."""

import os

import kombu.transport.redis  # noqa: F401 — otherwise the first change of a process waits 0.3 s for this import.
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "admin_console.settings")
application = get_wsgi_application()
