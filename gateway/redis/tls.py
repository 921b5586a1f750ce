"""TLS contexts for connections to Redis, created once and not per connection.

redis-py creates a context for each connection and loads all of the system's authorities into it: about 50 ms during
which the worker does nothing else. Here a context is reused until one of the configured files changes. The system's
authorities are loaded once per process.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from typing import Any

# Path, modification time and inode.
FileVersion = tuple[str, int, int] | None


def file_version(path: str | None) -> FileVersion:
    """Identifies the file at a path: another file there gives another result. Raises OSError if there is no file."""
    if path is None:
        return None
    found = os.stat(path)
    return path, found.st_mtime_ns, found.st_ino


@lru_cache(maxsize=8)
def make_context(
    ca_file: FileVersion,
    ca_folder: FileVersion,
    certificate: FileVersion,
    key: FileVersion,
    key_password: str | None,
    verify_mode: ssl.VerifyMode,
    check_hostname: bool,
) -> ssl.SSLContext:
    authorities: dict[str, Any] = {"cafile": ca_file and ca_file[0], "capath": ca_folder and ca_folder[0]}
    context = ssl.create_default_context(**authorities)
    # The order matters: CERT_NONE can't be assigned while check_hostname is set.
    context.check_hostname = check_hostname and verify_mode != ssl.CERT_NONE
    context.verify_mode = verify_mode
    if certificate or key:
        context.load_cert_chain(certificate[0] if certificate else "", key and key[0], key_password)
    return context
