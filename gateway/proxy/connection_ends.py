"""How a connection to a service, or a wait on one, may end."""

from __future__ import annotations


class ConnectionEnded(Exception):
    """The upstream closed the connection."""


class ConnectionBroken(ConnectionEnded):
    """The connection ended without an orderly close: by a reset, or a TLS connection without a close_notify."""


class WorkerEnding(Exception):
    """This worker is to end, and what is waited for may be left out."""
