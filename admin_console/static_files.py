"""Static files as they are collected: each named by the hash of its content, compressed, and all stylesheets of a page in one."""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join
from typing import Any

from django.conf import settings
from whitenoise.compress import Compressor
from whitenoise.storage import CompressedManifestStaticFilesStorage

STYLES = "css/console.css"
IMPORT = re.compile(r'@import url\("([^"]+)"\);')


class StaticFiles(CompressedManifestStaticFilesStorage):
    """Static files that are quick to load: a page asks for one stylesheet, where the source has one a matter."""

    def post_process(self, paths: dict[str, Any], **options: Any) -> Iterator[tuple[str, str | None, Any]]:
        """Put in place of the stylesheet that imports the others what they hold, then name and compress all files."""
        if STYLES in paths and not options.get("dry_run"):
            Path(self.path(STYLES)).write_text(_whole(STYLES, paths))
            paths = {**paths, STYLES: (self, STYLES)}
        yield from super().post_process(paths, **options)

    def create_compressor(self, **options: Any) -> Compressor:
        """Compress with gzip; with Brotli as well, which takes 12 s, where it is worth it: over a network."""
        return Compressor(use_brotli=settings.PRODUCTION, **options)


def _whole(name: str, paths: dict[str, Any]) -> str:
    """Return a stylesheet with those that it imports in their place, read where they come from."""
    storage, path = paths[name]
    with storage.open(path) as file:
        text = file.read().decode()
    return IMPORT.sub(lambda found: _whole(join(dirname(name), found[1]), paths), text)
