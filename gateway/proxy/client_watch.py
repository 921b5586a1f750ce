"""Waits for a service, and no longer than its client does."""

from __future__ import annotations

import select
import socket

from gateway.errors import ClientDisconnected
from gateway.proxy.connection_ends import WorkerEnding
from gateway.system.shutdown import StreamEnd
from gateway.system.sockets import wait_for_any

# Also one that only closed its sending side counts as gone, as with nginx. What it has sent before, its next request
# for example, says nothing about that.
CLIENT_HAS_GONE = getattr(select, "POLLRDHUP", 0)


def wait_watching(service: socket.socket, client: socket.socket, end: StreamEnd | None, seconds: float) -> None:
    """Until the service has sent something. Raises ClientDisconnected, TimeoutError, WorkerEnding."""
    events = {service.fileno(): select.POLLIN, client.fileno(): CLIENT_HAS_GONE}
    ending = end.descriptor if end is not None else None
    if ending is not None:
        events[ending] = select.POLLIN
    ready = wait_for_any(events, max(0, seconds))
    if service.fileno() in ready:
        return
    if not ready:
        raise TimeoutError
    raise WorkerEnding if ending in ready else ClientDisconnected
