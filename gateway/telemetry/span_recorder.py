"""Turns the records of sampled requests into spans."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flask import Response, request

from gateway import context
from gateway.config import TracingSettings
from gateway.errors import ConfigurationError
from gateway.telemetry.path_redaction import PathRedaction
from gateway.telemetry.request_records import RequestRecord
from gateway.telemetry.tracing.spans import inner_spans, server_span

if TYPE_CHECKING:
    from gateway.telemetry.tracing.export import SpanExport

log = logging.getLogger(__name__)


def make_span_recorder(settings: TracingSettings, redaction: PathRedaction) -> SpanRecorder | None:
    """Makes the recorder; None if no collector is configured. Raises ConfigurationError if the SDK is not installed."""
    if settings.otlp_endpoint is None:
        return None
    try:
        from gateway.telemetry.tracing.export import SpanExport  # noqa: PLC0415 - the SDK is an optional requirement
    except ImportError as error:
        raise ConfigurationError(
            [
                f"tracing.otlp_endpoint: needs the OpenTelemetry SDK ({error.name} is missing): "
                "pip install -r gateway/telemetry/tracing/requirements.txt"
            ]
        ) from error
    return SpanRecorder(SpanExport(settings), redaction)


class SpanRecorder:
    def __init__(self, export: SpanExport, redaction: PathRedaction) -> None:
        self._export = export
        self._redaction = redaction
        self._has_failed = False

    def close(self) -> None:
        """Sends the spans that are still queued. Called at the end of a worker."""
        self._export.close()

    def export_spans(self, records: Sequence[RequestRecord]) -> None:
        for record in records:
            exchange = record.exchange
            if exchange.trace is None or not exchange.trace.is_recorded:
                continue
            outer = server_span(record, self._redaction.path_of(exchange))
            urls = [self._redaction.upstream_url(exchange, attempt.url) for attempt in exchange.attempts]
            try:
                self._export.send(exchange.trace, outer, inner_spans(exchange, urls))
            except Exception:
                # Logged only once, as it would probably happen for each request.
                if not self._has_failed:
                    self._has_failed = True
                    log.exception("tracing: spans can't be created; further failures are not logged")


def store_url_rule(response: Response) -> Response:
    """Stores the URL rule for the request's span: Flask has forgotten the rule when the span is made. A Flask
    after_request hook."""
    exchange = context.current_or_none()
    if exchange is not None and request.url_rule is not None:
        exchange.url_rule = request.url_rule.rule
    return response
