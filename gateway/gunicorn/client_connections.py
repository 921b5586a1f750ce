"""The connections of a gevent worker that wait for a request: which they are, and how they are sent away.

An idle connection, or one whose client dribbles its header, costs nothing but its place. Where places run out, those
that have waited longest go first, so that nobody can keep others out by holding connections.
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

# Where there is no hurry, a request that may be on its way is given so long to come.
SPARE_AFTER_SECONDS = 0.5
# Between two looks for those who have waited too long: whoever looks has else to do, too.
LEAST_PAUSE_SECONDS = 0.05


class Evicted(BaseException):
    """Thrown into a greenlet that waits for a request: its connection is wanted for others."""


class Waiting:
    """While entered, the current greenlet waits for a request's head. Leaves quietly when it is sent away, or the
    worker ends."""

    __slots__ = ("_connection", "_waiting")

    def __init__(self, waiting: dict[Connection, None], connection: Connection) -> None:
        self._waiting = waiting
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.since = time.monotonic()
        self._waiting[self._connection] = None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._waiting.pop(self._connection, None)
        return isinstance(value, Evicted | GreenletExit)


@dataclass(slots=True, eq=False)
class Connection:
    """A client's connection, and since when it waits for a request."""

    greenlet: Greenlet
    socket: socket.socket
    since: float = 0.0

    @property
    def is_spare(self) -> bool:
        """Whether it can end without anybody missing it. A client that is in the middle of asking one thing after the
        other has the next request on its way, and would find it lost (RFC 9112 9.5)."""
        return time.monotonic() - self.since > SPARE_AFTER_SECONDS


class Connections:
    """All connections of a worker, and which of them wait, the longest waiting first. At most `most_per_client` of one
    address, where that is not 0."""

    def __init__(self, most_per_client: int) -> None:
        self.waiting: dict[Connection, None] = {}
        self._most_per_client = most_per_client
        self._all: dict[Greenlet, Connection] = {}
        self._per_client: Counter[str] = Counter()
        self._leaving: set[Connection] = set()

    @property
    def count(self) -> int:
        return len(self._all)

    @property
    def waiting_count(self) -> int:
        return len(self.waiting)

    @contextmanager
    def taking(self, client: socket.socket, address: Any) -> Iterator[bool]:
        """Holds the current greenlet's connection; whether it may be served, or its client has too many."""
        greenlet, peer = getcurrent(), address[0] if address else ""
        self._all[greenlet] = Connection(greenlet, client)
        self._per_client[peer] += 1
        try:
            yield not self._most_per_client or not address or self._per_client[peer] <= self._most_per_client
        finally:
            del self._all[greenlet]
            self._per_client[peer] -= 1
            if not self._per_client[peer]:
                del self._per_client[peer]

    def wait(self) -> Waiting:
        """For the current greenlet to wait in for a request."""
        return Waiting(self.waiting, self._all[getcurrent()])

    def send_away_overdue(self, seconds: float) -> float:
        """Ends those that have waited longer, also in the middle of a head: dribbled, it would never end. In so many
        seconds the next one will have: to be asked for again by then, as a timer for each request would cost more than
        most of what is done for it."""
        begun = time.monotonic() - seconds
        for connection in list(self.waiting):
            if connection.since > begun:
                return max(LEAST_PAUSE_SECONDS, connection.since - begun)
            get_hub().loop.run_callback(self._throw_overdue, connection, connection.since)
        return max(LEAST_PAUSE_SECONDS, seconds)

    def send_away(self, most: int) -> None:
        """Ends those that have waited longest, so many at most."""
        self._end([one for one in self.waiting if one not in self._leaving][:most])

    def send_away_spare(self) -> None:
        """Ends all that nobody will miss."""
        self._end([one for one in self.waiting if one.is_spare and one not in self._leaving])

    def _end(self, chosen: Iterable[Connection]) -> None:
        for connection in chosen:
            self._leaving.add(connection)
            get_hub().loop.run_callback(self._throw, connection)

    def _throw_overdue(self, connection: Connection, since: float) -> None:
        if connection in self.waiting and connection.since == since:
            connection.greenlet.throw(Evicted)

    def _throw(self, connection: Connection) -> None:
        """Runs in the hub, so that nothing comes between the question and the throw: what has arrived is served."""
        self._leaving.discard(connection)
        if connection in self.waiting and not has_data(connection.socket):
            connection.greenlet.throw(Evicted)


def has_data(sock: socket.socket) -> bool:
    """Whether something has arrived that has not been read yet, encrypted or not."""
    try:
        return bool(peek(sock))
    except OSError:
        return False
