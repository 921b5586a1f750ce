"""Counts finished requests, by what is configured and well-known methods: never by what a client made up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from gateway.aside import Note
from gateway.metrics import Metrics

METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
# Of the gateway's own paths, and of what no service has.
OWN = "gateway"
CLASSES = {hundreds: f"{hundreds}xx" for hundreds in range(1, 6)}


class RequestMetrics:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def read(self, notes: Sequence[Note]) -> None:
        metrics = self._metrics
        counts = Counter(map(labels_of, notes))
        for labels, count in counts.items():
            metrics.requests.labels(*labels).inc(count)
        own_seconds: defaultdict[str, float] = defaultdict(float)
        for note in notes:
            exchange = note.exchange
            service = exchange.policy.service if exchange.policy else OWN
            own_seconds[service] += max(0.0, exchange.own_seconds)
            metrics.request_seconds.labels(service).observe(note.seconds)
            if exchange.upstream_seconds is not None:
                metrics.upstream_seconds.labels(service).observe(exchange.upstream_seconds)
        for service, seconds in own_seconds.items():
            metrics.own_seconds.labels(service).inc(seconds)


def labels_of(note: Note) -> tuple[str, str, str, str]:
    """Service, route, method and class of status."""
    exchange = note.exchange
    method = exchange.method if exchange.method in METHODS else "other"
    policy = exchange.policy
    service, route = (policy.service, policy.name) if policy else (OWN, OWN)
    # A service may answer 999.
    return service, route, method, CLASSES.get(note.status // 100, "other")
