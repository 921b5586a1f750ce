"""Logs and counts the retries and breaker openings of one service's forwarder."""

from __future__ import annotations

import logging

from gateway.proxy.target import Target
from gateway.telemetry.metrics.registry import Metrics

log = logging.getLogger(__name__)


class ForwarderObserver:
    def __init__(self, service: str, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics

    def notify_retry(self) -> None:
        self._metrics.retries.labels(self._service).inc()

    def notify_breaker_opened(self, target: Target) -> None:
        log.warning("%s: the breaker of %s opened after repeated failures", self._service, target.url)
        self._metrics.breaker_openings.labels(self._service, target.url).inc()
