"""Keys that are generated once and stored in `instance/`, for an installation that has none configured."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.errors import ConfigurationError

SECRET_FILE = "jwt-secret"  # noqa: S105 - the name of the file
SIGNING_KEY_FILE = "identity-key.pem"
SECRET = re.compile(r"[!-~]{32,}")


def generated_secret(folder: Path) -> str:
    """The secret in `folder`. It is generated on first use, and only its owner can read it.

    Raises ConfigurationError if it can't be read or generated."""
    path = generated_once(folder, SECRET_FILE, lambda: secrets.token_urlsafe(48), "jwt.secret")
    try:
        # A damaged file may have bytes that are not ASCII. Their replacements don't match the pattern below.
        secret = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise ConfigurationError([f"jwt.secret: {str(path)!r} can't be read: {error.strerror}"]) from error
    if not SECRET.fullmatch(secret):
        raise ConfigurationError([f"jwt.secret: the generated one in {str(path)!r} is damaged; remove the file"])
    return secret


def generated_signing_key(folder: Path) -> Path:
    """The file in `folder` with the private key (P-256) for signing identities. It is generated on first use.

    Raises ConfigurationError if it can't be generated."""
    return generated_once(folder, SIGNING_KEY_FILE, new_signing_key, "identity.private_key_file")


def new_signing_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def generated_once(folder: Path, name: str, generate: Callable[[], str], setting: str) -> Path:
    """The path of the file of this name. The file is generated on first use, and only its owner can read it.

    Several processes may call this at once. All get the same file, and none sees an incomplete one."""
    path = folder / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            draft = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
            try:
                with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(generate())
                with suppress(FileExistsError):
                    os.link(draft, path)
            finally:
                draft.unlink(missing_ok=True)
    except OSError as error:
        raise not_generated(folder, setting, error) from error
    return path


def not_generated(folder: Path, setting: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        [f"{setting}: is not set, and none can be generated in {str(folder)!r}: {error.strerror}"]
    )
