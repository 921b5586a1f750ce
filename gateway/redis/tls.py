"""Certificates for TLS to Redis, which are not read anew for each connection.

redis-py makes a context for every one and reads all the system's authorities into it: some fifty milliseconds in which
a worker does nothing else. Here a context is made once, and again when a file changes (of those that are configured;
the system's authorities are read once).
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from typing import Any

Stamp = tuple[str, int, int] | None


def stamp(path: str | None) -> Stamp:
    """The path, and what tells that the file there is another one. Raises OSError where there is none."""
    if path is None:
        return None
    found = os.stat(path)
    return path, found.st_mtime_ns, found.st_ino


@lru_cache(maxsize=8)
def make_context(
    ca_file: Stamp,
    ca_folder: Stamp,
    certificate: Stamp,
    key: Stamp,
    key_password: str | None,
    verify_mode: ssl.VerifyMode,
    check_hostname: bool,
) -> ssl.SSLContext:
    authorities: dict[str, Any] = {"cafile": ca_file and ca_file[0], "capath": ca_folder and ca_folder[0]}
    context = ssl.create_default_context(**authorities)
    # In this order: without verification there can be no check of names, and Python says so at the assignment.
    context.check_hostname = check_hostname and verify_mode != ssl.CERT_NONE
    context.verify_mode = verify_mode
    if certificate or key:
        context.load_cert_chain(certificate[0] if certificate else "", key and key[0], key_password)
    return context
