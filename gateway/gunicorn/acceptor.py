"""Accepts client connections, also when the process has no more file descriptors for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gevent.pool import Pool
from gevent.server import StreamServer

from gateway.gunicorn.connection_eviction import ClientConnections
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION, is_exhaustion

# How many connections are closed at a time to make room for new ones. Only connections that wait for a request are
# closed.
EVICTED_AT_ONCE = 32
PAUSE_SECONDS = 0.05


class Acceptor(StreamServer):  # type: ignore[misc]
    """Accepts one connection at a time, so that other workers get their share, and starts a greenlet of `pool` for
    each."""

    def __init__(
        self,
        listener: Any,
        handle: Callable[[Any, Any], None],
        pool: Pool,
        connections: ClientConnections,
        tls: Mapping[str, Any],
    ) -> None:
        super().__init__(listener, handle=handle, spawn=pool, **tls)
        self.max_accept = 1
        self._connections = connections

    def accept_pending(self) -> None:
        """Stops the accept loop, and accepts the connections that are already established: closing the listener would
        reset them."""
        self.stop_accepting()
        while not self.full():
            try:
                accepted = self.do_read()
            except ConnectionAbortedError:
                # This client has disconnected; other clients may be waiting.
                continue
            except OSError:
                break
            if not accepted:
                break
            self.do_handle(*accepted)

    def do_read(self) -> Any:
        """Accepts a connection: its socket and its client's address. None if none is waiting, or if no descriptor is
        free."""
        try:
            return super().do_read()
        except OSError as error:
            if not is_exhaustion(error):
                raise
            RESOURCE_EXHAUSTION.report(error)
            if not RESOURCE_EXHAUSTION.release_spare():
                self._connections.evict(EVICTED_AT_ONCE)
            # The listener stays readable: without a pause the loop would call this again at once, for ever.
            self.stop_accepting()
            self._timer = self.loop.timer(PAUSE_SECONDS)
            self._timer.start(self._start_accepting_if_started)
            return None
