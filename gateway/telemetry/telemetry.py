"""Assembles the access log, metrics, traces and the figures of the status page for one application."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from flask import Flask

from gateway.config import Settings
from gateway.route_policy import policies_of
from gateway.status.rolling_stats import RollingStats
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.gauges import ConnectionCounts, Gauges
from gateway.telemetry.metrics.registry import Metrics
from gateway.telemetry.path_redaction import PathRedaction
from gateway.telemetry.request_metrics import RequestMetrics
from gateway.telemetry.request_records import Consumer, RecordQueue, RequestRecord
from gateway.telemetry.span_recorder import SpanRecorder, make_span_recorder

# The key in `app.extensions` under which gunicorn's hooks find the telemetry of an application.
TELEMETRY = "gateway_telemetry"


class Telemetry:
    # Set by `application.build` once all objects exist that the gauges read.
    gauges: Gauges

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.rolling_stats = RollingStats(settings.services, time.time)
        redaction = PathRedaction(policies_of(settings))
        self.spans: SpanRecorder | None = make_span_recorder(settings.tracing, redaction)
        self._access_log = AccessLog(settings.log, metrics.log_lines_lost.inc, random.random, redaction)
        consumers: list[Consumer] = [
            self._access_log.write_lines,
            RequestMetrics(metrics).count,
            self._count_for_status,
        ]
        if self.spans is not None:
            consumers.append(self.spans.export_spans)
        self.records = RecordQueue(consumers, self._flush_log)

    def start(self, connections: ConnectionCounts) -> None:
        """Called in a worker before its first request, so that operators see the worker from its start. `connections`
        are the client connections."""
        self.records.start()
        self._access_log.start()
        self.gauges.start(connections)

    def reopen_log(self) -> None:
        """Opens the log file by its name again after a log rotation."""
        self._access_log.reopen()

    def finish(self) -> None:
        """Writes and sends all queued log lines and spans. Called at the end of a worker."""
        self._flush_log()
        if self.spans is not None:
            self.spans.close()

    def _flush_log(self) -> None:
        self.records.drain()
        self._access_log.flush()

    def _count_for_status(self, records: Sequence[RequestRecord]) -> None:
        for record in records:
            exchange = record.exchange
            if exchange.policy is not None:
                seconds = None if exchange.is_stream else record.seconds
                self.rolling_stats.count(exchange.policy.service, record.status, exchange.error_code, seconds)


def telemetry_of(app: object) -> Telemetry | None:
    """Returns the telemetry of the application that gunicorn serves. None if the application failed to load, or is not
    the gateway."""
    return app.extensions.get(TELEMETRY) if isinstance(app, Flask) else None
