"""When the worker next checks for request heads that are overdue."""

from __future__ import annotations

import time

import pytest
from gevent import Greenlet

from gateway.gunicorn.connection_eviction import ClientConnection, ClientConnections
from gateway.gunicorn.slow_clients import MIN_PAUSE_SECONDS, evict_slow_heads


@pytest.mark.parametrize("max_seconds", [0, 0.001, 15])
def test_there_is_a_pause_between_two_checks_without_connections(max_seconds: float) -> None:
    assert evict_slow_heads(ClientConnections(0), max_seconds) == max(MIN_PAUSE_SECONDS, max_seconds)


def test_the_next_check_is_when_the_longest_waiting_connection_is_overdue() -> None:
    connections, now = ClientConnections(0), time.monotonic()
    for waited in (14.0, 3.0):
        connections.waiting[ClientConnection(Greenlet(), None, now - waited)] = None  # type: ignore[arg-type]
    assert 0 < evict_slow_heads(connections, 15) <= 1.0
