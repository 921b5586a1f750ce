"""Counts finished requests. Label values come from the configuration and fixed lists, never from a client."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from gateway.telemetry.metrics.histograms import observe_all
from gateway.telemetry.metrics.registry import Metrics
from gateway.telemetry.request_records import RequestRecord

METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
# The value of the labels service and route for the gateway's own paths, and for paths that belong to no service.
GATEWAY_LABEL = "gateway"
STATUS_CLASSES = {hundreds: f"{hundreds}xx" for hundreds in range(1, 6)}


class RequestMetrics:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def count(self, records: Sequence[RequestRecord]) -> None:
        metrics = self._metrics
        for labels, number in Counter(map(labels_of, records)).items():
            metrics.requests.labels(*labels).inc(number)
        by_service: defaultdict[str, list[RequestRecord]] = defaultdict(list)
        for record in records:
            by_service[labels_of(record)[0]].append(record)
        for service, own_records in by_service.items():
            exchanges = [record.exchange for record in own_records]
            metrics.own_seconds.labels(service).inc(sum(max(0.0, one.own_seconds) for one in exchanges))
            seconds = [record.seconds for record in own_records if not record.exchange.is_stream]
            observe_all(metrics.request_seconds.labels(service), seconds)
            upstream_seconds = [one.upstream_seconds for one in exchanges if one.upstream_seconds is not None]
            if upstream_seconds:
                observe_all(metrics.upstream_seconds.labels(service), upstream_seconds)
        metrics.redis_seconds.flush()


def labels_of(record: RequestRecord) -> tuple[str, str, str, str]:
    """Returns the labels of a request: service, route, method and status class."""
    exchange = record.exchange
    method = exchange.method if exchange.method in METHODS else "other"
    policy = exchange.policy
    service, route = (policy.service, policy.name) if policy else (GATEWAY_LABEL, GATEWAY_LABEL)
    # "other" is for an upstream's status such as 999: upstreams may send any three digits.
    return service, route, method, STATUS_CLASSES.get(record.status // 100, "other")
