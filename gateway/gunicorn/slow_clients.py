"""Time limits for clients: a deadline for the request head (slowloris), timeouts and a minimum rate for bodies."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from gevent import get_hub

from gateway.gunicorn.connection_eviction import ClientConnection, ClientConnections, Evicted

# The least time between two calls of `evict_slow_heads`: the worker's main loop has other work, too.
MIN_PAUSE_SECONDS = 0.05
# The minimum rate applies only after this time.
RATE_GRACE_SECONDS = 5.0


def evict_slow_heads(connections: ClientConnections, max_seconds: float) -> float:
    """Closes connections that have waited longer than `max_seconds` for a whole request head, or for its first byte. A
    read timeout is not enough: a head that is sent one byte at a time never completes (slowloris).

    Returns the seconds until the next connection may be overdue. The worker's main loop then calls this again: a timer
    for each request would cost more than most of the work for a request."""
    started = time.monotonic() - max_seconds
    for connection in list(connections.waiting):
        if connection.waiting_since > started:
            return max(MIN_PAUSE_SECONDS, connection.waiting_since - started)
        get_hub().loop.run_callback(throw_overdue, connections, connection, connection.waiting_since)
    return max(MIN_PAUSE_SECONDS, max_seconds)


def throw_overdue(connections: ClientConnections, connection: ClientConnection, waiting_since: float) -> None:
    if connection in connections.waiting and connection.waiting_since == waiting_since:
        connection.greenlet.throw(Evicted)


@dataclass(frozen=True, slots=True)
class ClientTimeouts:
    """The time limits for bodies. `piece_seconds`: how long a client may take to send or to read a piece of a body.
    `body_seconds`: how long it may take to send a whole body (0: no limit). `min_bytes_per_second`: the least rate at
    which a body must arrive (0: any rate)."""

    piece_seconds: float = 30.0
    body_seconds: float = 0.0
    min_bytes_per_second: int = 0


class MinRateReceiver:
    """Receives the body of one request within the client's timeouts."""

    def __init__(self, unreader: Any, timeouts: ClientTimeouts) -> None:
        self._unreader = unreader
        self._timeouts = timeouts
        # Monotonic seconds of the first read; 0 before it.
        self._started = 0.0
        self._waited_seconds = 0.0
        # The bytes of a chunked body include the lines of its chunks.
        self._received_bytes = 0

    def receive(self, size: int) -> bytes:
        """Returns between 1 and `size` bytes, and none at the end of the connection. Raises TimeoutError if the client
        is too slow, or another OSError."""
        timeouts, now = self._timeouts, time.monotonic()
        self._started = self._started or now
        remaining = self._started + timeouts.body_seconds - now if timeouts.body_seconds else timeouts.piece_seconds
        if remaining <= 0:
            raise TimeoutError("the body takes too long")
        is_last_piece = remaining < timeouts.piece_seconds
        try:
            if is_last_piece:
                self._unreader.sock.settimeout(remaining)
            data: bytes = self._unreader.chunk(size)
        finally:
            if is_last_piece:
                self._unreader.sock.settimeout(timeouts.piece_seconds)
        self._received_bytes += len(data)
        # Only the time of waiting for the client counts: an upstream that reads slowly is not the client's fault.
        self._waited_seconds += time.monotonic() - now
        required_bytes = self._waited_seconds * timeouts.min_bytes_per_second
        if self._waited_seconds > RATE_GRACE_SECONDS and self._received_bytes < required_bytes:
            raise TimeoutError("the body arrives too slowly")
        return data
