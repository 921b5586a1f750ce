"""How a worker is at this moment, for Prometheus: looked at aside, now and then, so that no request pays for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.api_documents.refresher import DocumentRefresher
from gateway.proxy.balancer import TargetState
from gateway.status.worker_state import LiveService, WorkerState
from gateway.system.memory import resident_bytes
from gateway.system.threads import PerProcessThread
from gateway.telemetry.metrics.registry import Metrics

LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


class ClientConnections(Protocol):
    """Those of a worker, and how many of them wait for a request."""

    @property
    def count(self) -> int: ...
    @property
    def waiting_count(self) -> int: ...


class Gauges:
    """`clock` is seconds since 1970."""

    def __init__(
        self, metrics: Metrics, present: WorkerState, refresher: DocumentRefresher, clock: Callable[[], float]
    ) -> None:
        self._metrics = metrics
        self._present = present
        self._refresher = refresher
        self._clock = clock
        self._connections: ClientConnections | None = None
        self._thread = PerProcessThread("gauges", self._keep_looking)

    def start(self, connections: ClientConnections | None) -> None:
        """Once in each worker; not before it is forked."""
        self._connections = connections
        self._metrics.worker_starts.inc()
        self._metrics.workers.set(1)
        self._thread.start()

    def look(self) -> None:
        metrics, now = self._metrics, self._clock()
        metrics.worker_memory.set(resident_bytes())
        if self._connections is not None:
            waiting = self._connections.waiting_count
            metrics.client_connections.labels("waiting").set(waiting)
            metrics.client_connections.labels("serving").set(self._connections.count - waiting)
        for name, service in self._present.services.items():
            self._look_at(name, service)
        for issuer in self._present.issuers:
            age = issuer.keys.age_seconds
            if age is not None:
                metrics.jwks_loaded.labels(issuer.name).set(now - age)
            if issuer.keys.state != "fixed":
                metrics.jwks_failing.labels(issuer.name).set(issuer.keys.state == "failing")
        for name, kept in self._refresher.known.items():
            if kept.version:
                metrics.document_current.labels(name).set(kept.stale_since or kept.checked_at)
            metrics.document_failing.labels(name).set(kept.failure != "")

    def _look_at(self, name: str, service: LiveService) -> None:
        metrics = self._metrics
        metrics.in_flight.labels(name).set(service.requests.in_flight)
        metrics.in_flight_limit.labels(name).set(service.max_in_flight)
        for url, states in by_url(service.targets).items():
            in_use = sum(state.in_flight for state in states)
            metrics.upstream_connections.labels(name, url, "in_use").set(in_use)
            metrics.upstream_connections.labels(name, url, "idle").set(service.connections.idle_count(states[0].target))
            is_open = any(state.breaker.state != "closed" for state in states)
            metrics.breaker_open.labels(name, url).set(is_open)
            if service.is_asked:
                metrics.target_unwell.labels(name, url).set(not all(state.is_healthy for state in states))
                metrics.target_unknown.labels(name, url).set(not all(state.is_health_known for state in states))

    def _keep_looking(self) -> None:
        is_failing = False
        while True:
            try:
                self.look()
                is_failing = False
            except Exception:
                if not is_failing:
                    log.exception("what the metrics tell of this worker is old")
                is_failing = True
            time.sleep(LOOK_SECONDS)


def by_url(targets: Sequence[TargetState]) -> dict[str, list[TargetState]]:
    """One target may be configured several times."""
    found: dict[str, list[TargetState]] = {}
    for state in targets:
        found.setdefault(state.target.url, []).append(state)
    return found
