"""The settings of the list's yardstick: a site with nothing but a plain Django admin over the same database."""

from admin_console.settings import *  # noqa: F403
from admin_console.settings import TEMPLATES

ROOT_URLCONF = "benchmarks.plain_admin_urls"
TEMPLATES = [{**TEMPLATES[0], "DIRS": []}]
