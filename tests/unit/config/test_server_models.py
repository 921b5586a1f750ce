"""The number of workers of the server."""

from __future__ import annotations

from gateway.config import ServerSettings
from gateway.system.cpus import usable_cpus
from tests.support.configuration import (
    errors_of,
    loaded,
)


def test_one_worker_per_core_and_two_at_least() -> None:
    assert ServerSettings().worker_count == max(2, usable_cpus())
    assert ServerSettings(workers=1).worker_count == 1


def test_there_is_one_kind_of_worker() -> None:
    assert loaded({"server": {"worker": "gevent"}}).server.worker == "gevent"
    assert errors_of({"server": {"worker": "gthread"}}) == [
        "server.worker: must be gevent, which is the only kind of worker, got 'gthread'"
    ]
