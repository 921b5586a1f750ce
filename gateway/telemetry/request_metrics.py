"""Counts finished requests, by what is configured and well-known methods: never by what a client made up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from gateway.telemetry.metrics.histograms import observe_all
from gateway.telemetry.metrics.registry import Metrics
from gateway.telemetry.request_records import RequestRecord

METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
# Of the gateway's own paths, and of what no service has.
OWN = "gateway"
CLASSES = {hundreds: f"{hundreds}xx" for hundreds in range(1, 6)}


class RequestMetrics:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def read(self, notes: Sequence[RequestRecord]) -> None:
        metrics = self._metrics
        counts = Counter(map(labels_of, notes))
        for labels, count in counts.items():
            metrics.requests.labels(*labels).inc(count)
        for service, its_notes in by_service(notes).items():
            exchanges = [note.exchange for note in its_notes]
            metrics.own_seconds.labels(service).inc(sum(max(0.0, one.own_seconds) for one in exchanges))
            seconds = [note.seconds for note in its_notes if not note.exchange.is_stream]
            observe_all(metrics.request_seconds.labels(service), seconds)
            upstream_seconds = [one.upstream_seconds for one in exchanges if one.upstream_seconds is not None]
            if upstream_seconds:
                observe_all(metrics.upstream_seconds.labels(service), upstream_seconds)
        metrics.redis_seconds.count()


def by_service(notes: Sequence[RequestRecord]) -> dict[str, list[RequestRecord]]:
    found: defaultdict[str, list[RequestRecord]] = defaultdict(list)
    for note in notes:
        found[note.exchange.policy.service if note.exchange.policy else OWN].append(note)
    return found


def labels_of(note: RequestRecord) -> tuple[str, str, str, str]:
    """Service, route, method and class of status."""
    exchange = note.exchange
    method = exchange.method if exchange.method in METHODS else "other"
    policy = exchange.policy
    service, route = (policy.service, policy.name) if policy else (OWN, OWN)
    # A service may answer 999.
    return service, route, method, CLASSES.get(note.status // 100, "other")
