"""The generated secret: made once, kept in `instance/`, for an installation that has no key configured."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from gateway.errors import ConfigurationError

FILE_NAME = "jwt-secret"
SECRET = re.compile(r"[!-~]{32,}")


def generated_secret(folder: Path) -> str:
    """The secret in `folder`, made there on first use, readable by the owner alone.

    Safe when several processes start at once: the file appears whole or not at all, and the first one wins.
    Raises ConfigurationError where it can neither be read nor made."""
    path = folder / FILE_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            draft = folder / f".{FILE_NAME}.{os.getpid()}.{secrets.token_hex(4)}"
            try:
                with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(secrets.token_urlsafe(48))
                with suppress(FileExistsError):
                    os.link(draft, path)
            finally:
                draft.unlink(missing_ok=True)
        # Whatever the bytes, they are only looked at: a damaged file is told below.
        secret = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise ConfigurationError(
            [f"jwt.secret: is not set, and none can be generated in {str(folder)!r}: {error.strerror}"]
        ) from error
    if not SECRET.fullmatch(secret):
        raise ConfigurationError([f"jwt.secret: the generated one in {str(path)!r} is damaged; remove the file"])
    return secret
