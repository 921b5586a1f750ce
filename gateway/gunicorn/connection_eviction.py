"""The client connections of a worker, and which of them are closed when the worker needs room.

An idle connection costs little, but it occupies one of `server.connections_per_worker` places. If these run out, the
connections that have waited longest for a request are closed first, so that nobody can keep others out by holding
connections open. `slow_clients` closes connections that wait too long for a whole request head.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from gevent import Greenlet, GreenletExit, get_hub, getcurrent

from gateway.system.sockets import peek

# After a response, a connection is not idle for this long: the client's next request may be on its way.
IDLE_AFTER_SECONDS = 0.5


class Evicted(BaseException):
    """Raised in a greenlet that waits for a request, so that it closes its connection."""


@dataclass(slots=True, eq=False)
class ClientConnection:
    """A client's connection. `waiting_since` is the time when it began to wait for a request, in monotonic seconds."""

    greenlet: Greenlet
    socket: socket.socket
    waiting_since: float = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether the connection can be closed without losing a request. Just after a response it can't: the client may
        have sent its next request already (RFC 9112 9.5)."""
        return time.monotonic() - self.waiting_since > IDLE_AFTER_SECONDS


class RequestWait:
    """Context in which the current greenlet waits for a request head and may be evicted. If it is evicted, or the
    worker ends it, the context suppresses the exception."""

    __slots__ = ("_connection", "_waiting")

    def __init__(self, waiting: dict[ClientConnection, None], connection: ClientConnection) -> None:
        self._waiting = waiting
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.waiting_since = time.monotonic()
        self._waiting[self._connection] = None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._waiting.pop(self._connection, None)
        return isinstance(value, Evicted | GreenletExit)


class ClientConnections:
    """All connections of a worker. `waiting` has the connections that wait for a request, the longest waiting first.
    One address may have `max_per_client` connections; 0 is no limit."""

    def __init__(self, max_per_client: int) -> None:
        self.waiting: dict[ClientConnection, None] = {}
        self._max_per_client = max_per_client
        self._all: dict[Greenlet, ClientConnection] = {}
        self._per_client: Counter[str] = Counter()
        self._evicting: set[ClientConnection] = set()

    @property
    def count(self) -> int:
        return len(self._all)

    @property
    def waiting_count(self) -> int:
        return len(self.waiting)

    @contextmanager
    def registered(self, client: socket.socket, address: Any) -> Iterator[bool]:
        """Registers the connection of the current greenlet. Yields True if the connection may be served, False if its
        client has too many connections."""
        greenlet, peer = getcurrent(), address[0] if address else ""
        self._all[greenlet] = ClientConnection(greenlet, client)
        self._per_client[peer] += 1
        try:
            yield not self._max_per_client or not address or self._per_client[peer] <= self._max_per_client
        finally:
            del self._all[greenlet]
            self._per_client[peer] -= 1
            if not self._per_client[peer]:
                del self._per_client[peer]

    def request_wait(self) -> RequestWait:
        """The context in which the current greenlet waits for a request."""
        return RequestWait(self.waiting, self._all[getcurrent()])

    def evict(self, count: int) -> None:
        """Closes up to `count` of the connections that have waited longest for a request."""
        self._evict([one for one in self.waiting if one not in self._evicting][:count])

    def evict_idle(self) -> None:
        """Closes all idle connections."""
        self._evict([one for one in self.waiting if one.is_idle and one not in self._evicting])

    def _evict(self, chosen: Iterable[ClientConnection]) -> None:
        for connection in chosen:
            self._evicting.add(connection)
            get_hub().loop.run_callback(self._throw, connection)

    def _throw(self, connection: ClientConnection) -> None:
        """Runs in the hub, so that no bytes are read between the check and the throw: a request that has begun to
        arrive is served."""
        self._evicting.discard(connection)
        if connection in self.waiting and not has_data(connection.socket):
            connection.greenlet.throw(Evicted)


def has_data(sock: socket.socket) -> bool:
    """Whether bytes have arrived that have not been read yet, encrypted or not."""
    try:
        return bool(peek(sock))
    except OSError:
        return False
