"""Ending sockets that other threads may be waiting on, and a listener that is never heard of."""

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


def deafen(listener: socket.socket) -> list[socket.socket]:
    """Has the system drop what would begin a connection, as it is behind a broken route. To be closed with the
    listener: connections that nobody accepts, in its queue of no length."""
    listener.listen(0)
    filling = [socket.socket(listener.family, socket.SOCK_STREAM) for _ in range(4)]
    for one in filling:
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
    return filling
