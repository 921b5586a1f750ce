"""Idle connections to the targets of a service: which of them the next request may use, and when they are closed.

A service closes idle connections after a time of its own (uvicorn after 5 s, gunicorn after 2 s). A request that is
sent at that moment is lost, so the gateway closes its side earlier.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakSet

from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.http1 import ResponseHead
from gateway.proxy.target import Target
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION
from gateway.system.threads import PerProcessThread
from gateway.system.time_slice import yield_if_due

# A request that can't be sent again uses only connections that have been idle for no longer than this.
FRESH_SECONDS = 1.0
# After a response that has no content although its head may announce some, to HEAD or a 304: a service that sends the
# content nevertheless has done so by then, also where Nagle's algorithm delays it by 40 ms and the network by more.
REST_SECONDS = 0.5
# How much earlier than a service (`Keep-Alive: timeout=5`) the gateway closes a connection.
MARGIN_SECONDS = 1.0
REAP_EVERY_SECONDS = 0.5


class IdleConnections:
    """The idle connections of one service: for each target at most `most_per_target`, each for at most `idle_seconds`.
    `clock` is monotonic seconds."""

    def __init__(self, most_per_target: int, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_per_target = most_per_target
        self._idle_seconds = idle_seconds
        self._clock = clock
        # Each from the one that was used the longest ago to the one that was used last; resting ones come first.
        self._by_target: dict[Target, deque[UpstreamConnection]] = {}
        self._is_reaped = False

    def take(self, target: Target, *, is_repeatable: bool) -> UpstreamConnection | None:
        """A connection for one request, None where there is none that can be used. `is_repeatable`: whether the request
        may be sent again where the service closes the connection just then."""
        idle = self._by_target.get(target)
        if not idle:
            return None
        now = self._clock()
        while idle:
            connection = idle.pop()
            if now < connection.rests_until or (not is_repeatable and now - connection.idle_since > FRESH_SECONDS):
                idle.append(connection)
                return None
            if now < connection.idle_until and not connection.is_stale():
                return connection
            connection.close()
        return None

    def put(self, target: Target, connection: UpstreamConnection, head: ResponseHead, *, must_rest: bool) -> None:
        """Keeps a connection whose response, with that head, has been read whole. `must_rest`: whether bytes may still
        come that belong to no request."""
        idle = self._by_target.get(target)
        if idle is None:
            idle = self._by_target.setdefault(target, deque())
        seconds = self._idle_seconds
        if head.keep_alive_seconds is not None:
            announced = head.keep_alive_seconds
            seconds = min(seconds, max(announced - MARGIN_SECONDS, announced / 2))
        if len(idle) >= self._most_per_target or not seconds:
            connection.close()
            return
        connection.end_exchange()
        connection.idle_since = now = self._clock()
        connection.idle_until = now + seconds
        if must_rest:
            connection.rests_until = now + REST_SECONDS
            idle.appendleft(connection)
        else:
            idle.append(connection)
        if not self._is_reaped:
            self._is_reaped = REAPER.watch(self)

    def count(self, target: Target) -> int:
        return len(self._by_target.get(target, ()))

    def close_spent(self) -> None:
        """Closes those that have been idle for too long, and those that the service has closed."""
        now = self._clock()
        self._close_where(lambda connection: now >= connection.idle_until or connection.has_ended())

    def close_all(self) -> int:
        """Closes all; how many there were."""
        return self._close_where(lambda _: True)

    def _close_where(self, is_chosen: Callable[[UpstreamConnection], bool]) -> int:
        closed = 0
        for idle in list(self._by_target.values()):
            for connection in list(idle):
                yield_if_due()
                # A request may have taken it in the meantime, then it is not there any more.
                with suppress(ValueError):
                    if is_chosen(connection):
                        idle.remove(connection)
                        connection.close()
                        closed += 1
        return closed


class Reaper:
    """Closes spent idle connections of this process also where no request comes: one background thread for all
    services. A connection that the service has closed would hold its descriptor for ever."""

    def __init__(self) -> None:
        self._watched: WeakSet[IdleConnections] = WeakSet()
        self._thread = PerProcessThread("idle connections", self._run)

    def watch(self, connections: IdleConnections) -> bool:
        """Whether it could be started; not to be called before the process is forked."""
        self._watched.add(connections)
        try:
            self._thread.start()
        except RuntimeError:
            # No thread can be had now.
            return False
        return True

    def close_all(self) -> bool:
        """Whether there was a connection to be closed."""
        return sum([connections.close_all() for connections in list(self._watched)]) > 0

    def _run(self) -> None:
        while True:
            time.sleep(REAP_EVERY_SECONDS)
            for connections in list(self._watched):
                connections.close_spent()


REAPER = Reaper()
RESOURCE_EXHAUSTION.spare.append(REAPER.close_all)
