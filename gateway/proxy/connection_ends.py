"""How a connection to a service, or a wait on one, may end."""

from __future__ import annotations

from gateway.errors import Overloaded
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION, is_exhaustion


class ConnectionEnded(Exception):
    """The upstream closed the connection."""


class ConnectionBroken(ConnectionEnded):
    """The connection ended without an orderly close: by a reset, or a TLS connection without a close_notify."""


class WorkerEnding(Exception):
    """This worker is to end, and what is waited for may be left out."""


def cause_of(error: OSError) -> ConnectionEnded | Overloaded:
    """What an error on a connection means for its request. Where this process is out of descriptors or memory, the
    upstream has not failed."""
    if is_exhaustion(error):
        RESOURCE_EXHAUSTION.tell(error)
        return Overloaded("try again in a moment")
    return ConnectionBroken()
