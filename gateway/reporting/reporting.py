"""All that is told of requests, and by whom: the access log, metrics, the status page's figures, spans."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from flask import Flask

from gateway.config import Settings
from gateway.metrics.registry import Metrics
from gateway.policies import policies_of
from gateway.reporting.access_log import AccessLog
from gateway.reporting.gauges import ClientConnections, Gauges
from gateway.reporting.notes import Note, Notes, Reader
from gateway.reporting.path_redaction import PathRedaction
from gateway.reporting.request_metrics import RequestMetrics
from gateway.reporting.span_recorder import SpanRecorder, make_recorder
from gateway.status.desk import StatusDesk
from gateway.status.recent import Recent

# Under which the application keeps it, for the server's hooks.
REPORTING = "gateway_reporting"


class Reporting:
    """`status` is told to the page, `gauges` to Prometheus, once they are there."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.recent = Recent(settings.services, time.time)
        redaction = PathRedaction(policies_of(settings))
        self.spans: SpanRecorder | None = make_recorder(settings.tracing, redaction)
        self.status: StatusDesk | None = None
        self.gauges: Gauges | None = None
        self._access_log = AccessLog(settings.log, metrics.log_lines_lost.inc, random.random, redaction)
        readers: list[Reader] = [self._access_log.read, RequestMetrics(metrics).read, self._observe]
        if self.spans is not None:
            readers.append(self.spans.read)
        self.notes = Notes(readers, self._finish_log)

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

    def _observe(self, notes: Sequence[Note]) -> None:
        for note in notes:
            exchange = note.exchange
            if exchange.policy is not None:
                seconds = None if exchange.is_stream else note.seconds
                self.recent.observe(exchange.policy.service, note.status, exchange.error_code, seconds)


def reporting_of(app: object) -> Reporting | None:
    """That of what gunicorn serves, which may be nothing where it failed to load."""
    return app.extensions.get(REPORTING) if isinstance(app, Flask) else None
