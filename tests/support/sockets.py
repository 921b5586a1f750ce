"""Free ports, closing of sockets that other threads wait on, and a listener that drops connections."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress


def free_ports(count: int) -> int:
    """Finds `count` consecutive free ports and returns the first one."""
    while True:
        # These ports are below the range of ephemeral ports, so no client connection gets one of them.
        first = 15_000 + secrets.randbelow(15_000)
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
        return first


def end_all(sockets: Iterable[socket.socket]) -> None:
    """Wakes up the threads that wait on the sockets, and closes them."""
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def deafen(listener: socket.socket) -> list[socket.socket]:
    """Makes the system drop new connections to the listener without an answer, like a broken route. Returns the
    connections that fill the listener's queue, which nobody accepts; they must be closed with the listener."""
    listener.listen(0)
    filling = [socket.socket(listener.family, socket.SOCK_STREAM) for _ in range(4)]
    for one in filling:
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
    return filling
