"""Spans in Flask: what a request's are made of is gathered, and handed on when its answer has gone out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flask import Response, request

from gateway import context
from gateway.config import TracingSettings
from gateway.context import Exchange, ResponseFacts
from gateway.errors import ConfigurationError
from gateway.telemetry.path_redaction import PathRedaction
from gateway.telemetry.request_records import RequestRecord
from gateway.telemetry.tracing.spans import inner_spans, server_span

if TYPE_CHECKING:
    from gateway.telemetry.tracing.export import SpanExport

log = logging.getLogger(__name__)


def make_recorder(settings: TracingSettings, redaction: PathRedaction) -> SpanRecorder | None:
    """What makes spans of sampled requests, where there is a collector; nothing at all where there is none.

    Raises ConfigurationError where the SDK is not installed."""
    if settings.otlp_endpoint is None:
        return None
    try:
        from gateway.telemetry.tracing.export import SpanExport  # noqa: PLC0415 - an extra, and only for those who want it
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

    def remember(self, response: Response) -> Response:
        """Keeps what will be gone when the answer has gone out."""
        exchange = context.current_or_none()
        if exchange is not None and exchange.trace is not None and exchange.trace.is_recorded:
            environ = exchange.environ
            exchange.response_facts = ResponseFacts(
                response.status_code,
                self._route_of(exchange),
                environ["wsgi.url_scheme"],
                environ.get("HTTP_HOST", ""),
                environ["SERVER_PROTOCOL"],
            )
        return response

    def close(self) -> None:
        """Sends what is left when a worker ends."""
        self._export.close()

    def _route_of(self, exchange: Exchange) -> str | None:
        if exchange.policy is not None:
            return exchange.policy.path
        return request.url_rule.rule if request.url_rule is not None else None

    def read(self, notes: Sequence[RequestRecord]) -> None:
        """Makes the spans of finished requests."""
        for note in notes:
            exchange = note.exchange
            if exchange.response_facts is None or exchange.trace is None:
                continue
            outer = server_span(exchange, exchange.response_facts, note.ended, self._redaction.path_of(exchange))
            for call in exchange.trace.calls:
                call.url = self._redaction.upstream_url(exchange, call.url)
            try:
                self._export.send(exchange.trace, outer, inner_spans(exchange, exchange.trace))
            except Exception:
                # No log may be filled with it.
                if not self._has_failed:
                    self._has_failed = True
                    log.exception("spans can't be made")
