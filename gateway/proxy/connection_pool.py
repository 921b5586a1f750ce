"""The connection pool of a service: opens connections, keeps idle ones for later requests, and closes them in time.

A service closes idle connections after a time of its own (uvicorn after 5 s, gunicorn after 2 s). A request sent at
that moment is lost, so the gateway closes an idle connection earlier than the service does.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakSet

from gateway.config import ServiceSettings
from gateway.proxy.connect import connect, tls_context
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.http1 import ResponseHead
from gateway.proxy.target import Target
from gateway.proxy.timeouts import Timeouts
from gateway.system.fair_scheduling import yield_if_due
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION
from gateway.system.threads import PerProcessThread

# A request that can't be sent again uses only connections that have been idle for no longer than this.
FRESH_SECONDS = 1.0
# How long a connection is not used after a response to HEAD or a 304. Such a response has no content, but its head may
# announce some, and a faulty service sends it. After this time the content has arrived, even if Nagle's algorithm
# delays it by 40 ms and the network by more.
QUARANTINE_SECONDS = 0.5
# How much earlier the gateway closes an idle connection than the service says that it will (`Keep-Alive: timeout=5`).
MARGIN_SECONDS = 1.0
CLOSE_EXPIRED_EVERY_SECONDS = 0.5


class UpstreamConnectionPool:
    """The connections to all targets of one service. At most `keepalive_connections` are idle per target, each for at
    most `keepalive_idle_seconds`. `clock` is monotonic seconds. Raises ConfigurationError for unusable certificates."""

    def __init__(self, settings: ServiceSettings, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._tls = tls_context(settings, name)
        self._max_idle_per_target = settings.keepalive_connections
        self._idle_seconds = settings.keepalive_idle_seconds
        self._clock = clock
        # The idle connections of each target, in the order of their last use; quarantined connections come first.
        self._idle_by_target: dict[Target, deque[UpstreamConnection]] = {}
        self._is_watched = False

    def connect(self, target: Target, timeouts: Timeouts) -> UpstreamConnection:
        """Opens a connection. Raises UpstreamNotReached, UpstreamConnectTimeout or Overloaded."""
        return connect(target, self._tls, timeouts)

    def take_idle(self, target: Target, *, is_repeatable: bool) -> UpstreamConnection | None:
        """Takes an idle connection, or returns None. `is_repeatable` is whether the request may be sent again if the
        service closes the connection at that moment."""
        idle = self._idle_by_target.get(target)
        if not idle:
            return None
        now = self._clock()
        while idle:
            connection = idle.pop()
            if now < connection.quarantined_until or (
                not is_repeatable and now - connection.idle_since > FRESH_SECONDS
            ):
                idle.append(connection)
                return None
            if now < connection.idle_until and not connection.is_stale():
                return connection
            connection.close()
        return None

    def put_idle(
        self, target: Target, connection: UpstreamConnection, head: ResponseHead, *, must_quarantine: bool
    ) -> None:
        """Stores a connection whose response, with that head, has been read completely. `must_quarantine` is whether
        the service may still send content that belongs to no request."""
        idle = self._idle_by_target.get(target)
        if idle is None:
            idle = self._idle_by_target.setdefault(target, deque())
        seconds = self._idle_seconds
        if head.keep_alive_seconds is not None:
            announced = head.keep_alive_seconds
            seconds = min(seconds, max(announced - MARGIN_SECONDS, announced / 2))
        if len(idle) >= self._max_idle_per_target or not seconds:
            connection.close()
            return
        # The client's request would otherwise stay in memory for as long as the connection is idle.
        connection.client_socket = None
        connection.idle_since = now = self._clock()
        connection.idle_until = now + seconds
        if must_quarantine:
            connection.quarantined_until = now + QUARANTINE_SECONDS
            idle.appendleft(connection)
        else:
            idle.append(connection)
        if not self._is_watched:
            self._is_watched = IDLE_CONNECTION_CLOSER.watch(self)

    def idle_count(self, target: Target) -> int:
        return len(self._idle_by_target.get(target, ()))

    def close_expired(self) -> None:
        """Closes connections that have been idle for too long, and those that the service has closed."""
        now = self._clock()
        self._close_where(lambda connection: now >= connection.idle_until or connection.is_closed_by_upstream())

    def close_idle(self) -> int:
        """Closes all idle connections. Returns their number."""
        return self._close_where(lambda _: True)

    def _close_where(self, is_chosen: Callable[[UpstreamConnection], bool]) -> int:
        closed = 0
        for idle in list(self._idle_by_target.values()):
            for connection in list(idle):
                yield_if_due()
                # `remove` raises ValueError if a request has taken the connection in the meantime.
                with suppress(ValueError):
                    if is_chosen(connection):
                        idle.remove(connection)
                        connection.close()
                        closed += 1
        return closed


class IdleConnectionCloser:
    """Closes expired idle connections, in one background thread for all services of this process. Without it, a
    connection that the service has closed would hold its descriptor until the next request to that service."""

    def __init__(self) -> None:
        self._pools: WeakSet[UpstreamConnectionPool] = WeakSet()
        self._thread = PerProcessThread("idle connections", self._run)

    def watch(self, pool: UpstreamConnectionPool) -> bool:
        """Adds a pool. Returns whether the thread could be started. Not to be called before the process is forked."""
        self._pools.add(pool)
        try:
            self._thread.start()
        except RuntimeError:
            # The system has no thread left at the moment.
            return False
        return True

    def close_all(self) -> bool:
        """Closes the idle connections of all services. Returns whether there were any."""
        return sum([pool.close_idle() for pool in list(self._pools)]) > 0

    def _run(self) -> None:
        while True:
            time.sleep(CLOSE_EXPIRED_EVERY_SECONDS)
            for pool in list(self._pools):
                pool.close_expired()


IDLE_CONNECTION_CLOSER = IdleConnectionCloser()
RESOURCE_EXHAUSTION.spare.append(IDLE_CONNECTION_CLOSER.close_all)
