"""Spans in Flask: what a request's are made of is gathered, and handed on when its answer has gone out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from gateway import context
from gateway.config import TracingSettings
from gateway.context import Exchange
from gateway.errors import ConfigurationError
from gateway.tracing.spans import Served, inner_spans, server_span
from gateway.tracing.trace_context import Trace

if TYPE_CHECKING:
    from gateway.tracing.export import SpanExport

EXTENSION = "gateway-spans"

log = logging.getLogger(__name__)


def install(app: Flask, settings: TracingSettings, clock: Callable[[], float]) -> None:
    """Has spans made of sampled requests, where there is a collector; nothing at all where there is none.

    Raises ConfigurationError where the SDK is not installed."""
    if settings.otlp_endpoint is None:
        return
    try:
        from gateway.tracing.export import SpanExport  # noqa: PLC0415 - an extra, and only for those who want it
    except ImportError as error:
        raise ConfigurationError(
            [
                f"tracing.otlp_endpoint: needs the OpenTelemetry SDK ({error.name} is missing): "
                "pip install -r gateway/tracing/requirements.txt"
            ]
        ) from error
    app.extensions[EXTENSION] = export = SpanExport(settings)
    app.after_request(SpanRecorder(export, clock).remember)


def flush_spans(app: object) -> None:
    """Sends what is left when a worker ends. `app` is what it served, if it has come so far."""
    if isinstance(app, Flask) and EXTENSION in app.extensions:
        app.extensions[EXTENSION].close()


class SpanRecorder:
    """`clock` gives monotonic seconds, as the exchange's own times are."""

    def __init__(self, export: SpanExport, clock: Callable[[], float]) -> None:
        self._export = export
        self._clock = clock
        self._has_failed = False

    def remember(self, response: Response) -> Response:
        """Keeps what will be gone when the answer has gone out."""
        exchange = context.current_or_none()
        if exchange is not None and exchange.trace is not None and exchange.trace.is_recorded:
            environ = request.environ
            served = Served(
                response.status_code,
                self._route_of(exchange),
                environ["wsgi.url_scheme"],
                environ.get("HTTP_HOST", ""),
                environ["SERVER_PROTOCOL"],
            )
            exchange.when_closed.append(partial(self._record, exchange, exchange.trace, served))
        return response

    def _route_of(self, exchange: Exchange) -> str | None:
        if exchange.policy is not None:
            return exchange.policy.path
        return request.url_rule.rule if request.url_rule is not None else None

    def _record(self, exchange: Exchange, trace: Trace, served: Served) -> None:
        outer = server_span(exchange, served, self._clock())
        try:
            self._export.send(trace, outer, inner_spans(exchange, trace))
        except Exception:
            # No request may fail by it, and no log be filled with it.
            if not self._has_failed:
                self._has_failed = True
                log.exception("spans can't be made")
