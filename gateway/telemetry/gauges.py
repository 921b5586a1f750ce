"""Updates the gauges of a worker's present state once a second, in the background, so that they cost requests
nothing."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from gateway.api_documents.refresher import DocumentRefresher
from gateway.proxy.balancer import TargetState
from gateway.status.worker_state import LiveService, WorkerState
from gateway.system.memory import resident_bytes
from gateway.system.threads import PerProcessThread
from gateway.telemetry.metrics.registry import Metrics

UPDATE_SECONDS = 1.0

log = logging.getLogger(__name__)


class ConnectionCounts(Protocol):
    """The numbers of a worker's client connections: of all, and of those that wait for a request."""

    @property
    def count(self) -> int: ...
    @property
    def waiting_count(self) -> int: ...


class Gauges:
    """Updates the gauges. `clock` returns seconds since 1970."""

    def __init__(
        self, metrics: Metrics, worker_state: WorkerState, refresher: DocumentRefresher, clock: Callable[[], float]
    ) -> None:
        self._metrics = metrics
        self._worker_state = worker_state
        self._refresher = refresher
        self._clock = clock
        self._thread = PerProcessThread("gauges", self._update_forever)

    def start(self, connections: ConnectionCounts) -> None:
        """Starts the updates. Called once in each worker, after the fork."""
        self._connections = connections
        self._metrics.worker_starts.inc()
        self._metrics.workers.set(1)
        self._thread.start()

    def update(self) -> None:
        metrics, now = self._metrics, self._clock()
        metrics.worker_memory.set(resident_bytes())
        waiting = self._connections.waiting_count
        metrics.client_connections.labels("waiting").set(waiting)
        metrics.client_connections.labels("serving").set(self._connections.count - waiting)
        for name, service in self._worker_state.services.items():
            self._update_service(name, service)
        for issuer in self._worker_state.issuers:
            age = issuer.keys.age_seconds
            if age is not None:
                metrics.jwks_loaded.labels(issuer.name).set(now - age)
            if issuer.keys.state != "fixed":
                metrics.jwks_failing.labels(issuer.name).set(issuer.keys.state == "failing")
        for name, document in self._refresher.known.items():
            if document.version:
                metrics.document_current.labels(name).set(document.stale_since or document.checked_at)
            metrics.document_failing.labels(name).set(document.failure != "")

    def _update_service(self, name: str, service: LiveService) -> None:
        metrics = self._metrics
        metrics.in_flight.labels(name).set(service.forwarder.in_flight)
        metrics.in_flight_limit.labels(name).set(service.settings.max_in_flight)
        # A service may list one URL several times. Each entry is a target of its own, but a gauge has one value for
        # each URL.
        by_url: defaultdict[str, list[TargetState]] = defaultdict(list)
        for state in service.targets:
            by_url[state.target.url].append(state)
        for url, states in by_url.items():
            in_use = sum(state.in_flight for state in states)
            metrics.upstream_connections.labels(name, url, "in_use").set(in_use)
            metrics.upstream_connections.labels(name, url, "idle").set(service.session.idle_count(states[0].target))
            is_open = any(state.breaker.state != "closed" for state in states)
            metrics.breaker_open.labels(name, url).set(is_open)
            if service.settings.health.path:
                metrics.target_unhealthy.labels(name, url).set(not all(state.is_healthy for state in states))
                metrics.target_unknown.labels(name, url).set(not all(state.is_health_known for state in states))

    def _update_forever(self) -> None:
        is_failing = False
        while True:
            try:
                self.update()
                is_failing = False
            except Exception:
                if not is_failing:
                    log.exception("metrics: the gauges of this worker are not updated")
                is_failing = True
            time.sleep(UPDATE_SECONDS)
