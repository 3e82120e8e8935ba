"""Where the parts that come with the console (PostgreSQL, Valkey, secrets) keep their state."""

import hashlib
import os
import secrets
import tempfile
from pathlib import Path


def sockets_folder(home: Path) -> Path:
    """Return the folder for the sockets of the console whose state is in `home`: short, for a socket's path may have 107 bytes."""
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"admin-console-{name}"


def kept_secret(path: Path) -> str:
    """Return the secret kept in `path`, made at the first call (readable by its owner only)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
    except FileExistsError:
        pass
    return path.read_text()
