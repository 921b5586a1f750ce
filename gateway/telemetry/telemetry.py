"""All that is told of requests, and by whom: the access log, metrics, the status page's figures, spans."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from flask import Flask

from gateway.config import Settings
from gateway.route_policy import policies_of
from gateway.status.document import StatusDocument
from gateway.status.rolling_stats import RollingStats
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.gauges import ClientConnections, Gauges
from gateway.telemetry.metrics.registry import Metrics
from gateway.telemetry.path_redaction import PathRedaction
from gateway.telemetry.request_metrics import RequestMetrics
from gateway.telemetry.request_records import Reader, RequestRecord, RequestRecords
from gateway.telemetry.span_recorder import SpanRecorder, make_recorder

# Under which the application keeps it, for the server's hooks.
TELEMETRY = "gateway_reporting"


class Telemetry:
    """`status` is told to the page, `gauges` to Prometheus, once they are there."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.recent = RollingStats(settings.services, time.time)
        redaction = PathRedaction(policies_of(settings))
        self.spans: SpanRecorder | None = make_recorder(settings.tracing, redaction)
        self.status: StatusDocument | None = None
        self.gauges: Gauges | None = None
        self._access_log = AccessLog(settings.log, metrics.log_lines_lost.inc, random.random, redaction)
        readers: list[Reader] = [self._access_log.read, RequestMetrics(metrics).read, self._observe]
        if self.spans is not None:
            readers.append(self.spans.read)
        self.notes = RequestRecords(readers, self._finish_log)

    def start(self, connections: ClientConnections | None) -> None:
        """In a worker, before its first request: operators see it from then on. `connections` are its clients', where
        it knows them."""
        self.notes.start()
        self._access_log.start()
        if self.gauges is not None:
            self.gauges.start(connections)
        if self.status is not None:
            self.status.start()

    def reopen(self) -> None:
        """For whoever moved the log away."""
        self._access_log.reopen()

    def finish(self) -> None:
        """At the end of a worker: nothing that is known is lost."""
        self._finish_log()
        if self.spans is not None:
            self.spans.close()

    def _finish_log(self) -> None:
        self.notes.finish()
        self._access_log.finish()

    def _observe(self, notes: Sequence[RequestRecord]) -> None:
        for note in notes:
            exchange = note.exchange
            if exchange.policy is not None:
                seconds = None if exchange.is_stream else note.seconds
                self.recent.observe(exchange.policy.service, note.status, exchange.error_code, seconds)


def telemetry_of(app: object) -> Telemetry | None:
    """That of what gunicorn serves, which may be nothing where it failed to load."""
    return app.extensions.get(TELEMETRY) if isinstance(app, Flask) else None
