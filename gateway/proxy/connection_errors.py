"""The exceptions that end the use of a connection to an upstream, or a wait for its bytes."""

from __future__ import annotations

from gateway.errors import Overloaded
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION, is_exhaustion


class ConnectionClosed(Exception):
    """The upstream closed the connection."""


class ConnectionAborted(ConnectionClosed):
    """The connection ended without an orderly close: by a reset, or by TLS without a close_notify."""


class WorkerShuttingDown(Exception):
    """This worker is shutting down, so it does not wait for the next server-sent event."""


def connection_error(error: OSError) -> ConnectionClosed | Overloaded:
    """The error to raise for an OSError on a connection. If this process has run out of descriptors or memory, the
    error is Overloaded, as the upstream has not failed."""
    if is_exhaustion(error):
        RESOURCE_EXHAUSTION.report(error)
        return Overloaded("try again in a moment")
    return ConnectionAborted()
