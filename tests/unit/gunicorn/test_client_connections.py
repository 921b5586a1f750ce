"""The connections of a worker that wait for a request: how long it may look away."""

from __future__ import annotations

import time

import pytest
from gevent import Greenlet

from gateway.gunicorn.client_connections import LEAST_PAUSE_SECONDS, Connection, Connections


@pytest.mark.parametrize("deadline_seconds", [0, 0.001, 15])
def test_nobody_looks_all_the_time_though_nobody_waits(deadline_seconds: float) -> None:
    assert Connections(0).send_away_overdue(deadline_seconds) == max(LEAST_PAUSE_SECONDS, deadline_seconds)


def test_the_next_look_is_when_the_one_who_has_waited_longest_is_overdue() -> None:
    connections, now = Connections(0), time.monotonic()
    for waited in (14.0, 3.0):
        connections.waiting[Connection(Greenlet(), None, now - waited)] = None  # type: ignore[arg-type]
    assert 0 < connections.send_away_overdue(15) <= 1.0
