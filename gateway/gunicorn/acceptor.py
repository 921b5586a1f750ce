"""Taking connections under gevent, also when there are no more descriptors for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gevent.pool import Pool
from gevent.server import StreamServer

from gateway.gunicorn.client_connections import Connections
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION, is_exhaustion

# How many of the connections that wait are sent away at once where there is no room for new ones.
CROWD = 32
PAUSE_SECONDS = 0.05


class Acceptor(StreamServer):  # type: ignore[misc]
    """Takes one connection after the other, so that other workers get theirs, each into a greenlet of `pool`."""

    def __init__(
        self,
        listener: Any,
        handle: Callable[[Any, Any], None],
        pool: Pool,
        connections: Connections,
        tls: Mapping[str, Any],
    ) -> None:
        super().__init__(listener, handle=handle, spawn=pool, **tls)
        self.max_accept = 1
        self._connections = connections

    def take_rest(self) -> None:
        """Takes the connections that have been made by now: closing the listener would reset them."""
        self.stop_accepting()
        while not self.full():
            try:
                taken = self.do_read()
            except ConnectionAbortedError:
                # Its client has left before.
                continue
            except OSError:
                break
            if not taken:
                break
            self.do_handle(*taken)

    def do_read(self) -> Any:
        """A connection and its client's address; None where none can be had now."""
        try:
            return super().do_read()
        except OSError as error:
            if not is_exhaustion(error):
                raise
            # It stays readable: without a pause this would be asked again at once, and again.
            RESOURCE_EXHAUSTION.tell(error)
            if not RESOURCE_EXHAUSTION.release_spare():
                self._connections.send_away(CROWD)
            self.stop_accepting()
            self._timer = self.loop.timer(PAUSE_SECONDS)
            self._timer.start(self._start_accepting_if_started)
            return None
