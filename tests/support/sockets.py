"""Ending sockets that other threads may be waiting on."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress


def end_all(sockets: Iterable[socket.socket]) -> None:
    """Wakes whoever waits on them, and closes them."""
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
