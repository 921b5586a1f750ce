"""Spans handed to the official OpenTelemetry SDK, which sends them to a collector by OTLP, in batches and aside.

Importing this fails where the SDK is not installed. The SDK reads variables of its own (OTEL_BSP_*,
OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_RESOURCE_ATTRIBUTES, …) for what the gateway has no settings for.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Sequence
from threading import Lock, Thread, local

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.span import TraceState
from requests import Session

from gateway.config import TracingSettings
from gateway.telemetry.tracing.spans import SpanRecord
from gateway.trace_context import Trace

PATH = "/v1/traces"
KINDS = {"server": SpanKind.SERVER, "internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
# How long the end of a worker may wait for what has not been sent yet.
FLUSH_SECONDS = 1.0
# Encoding is CPU time that requests wait for under gevent: a little at a time.
BATCH_SPANS = 64
SECONDS_BETWEEN_WORDS = 60.0

log = logging.getLogger(__name__)


class SpanExport:
    """Sends spans of this process. What it needs for that (a thread, a connection) begins with the first span, so not
    before a fork; nobody ever waits for it."""

    def __init__(self, settings: TracingSettings) -> None:
        self._settings = settings
        self._ids = PresetIdGenerator()
        self._lock = Lock()
        self._pid = 0
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None

    def send(self, trace: Trace, outer: SpanRecord, inner: Iterable[SpanRecord]) -> None:
        """One span of a trace, and those within it."""
        tracer = self._own_tracer()
        wall, monotonic = time.time_ns(), time.monotonic()

        def at(moment: float) -> int:
            return wall - round((monotonic - moment) * 1e9)

        def begin(record: SpanRecord, context: Context) -> Span:
            self._ids.give(trace.trace_id, record.span_id)
            span = tracer.start_span(
                record.name, context, KINDS[record.kind], record.attributes, start_time=at(record.started)
            )
            if record.is_error:
                span.set_status(StatusCode.ERROR)
            return span

        span = begin(outer, parent_context(trace))
        within = set_span_in_context(span, Context())
        for record in inner:
            begin(record, within).end(at(record.ended))
        span.end(at(outer.ended))

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Sends what this process has left, and waits for that no longer than so."""
        with self._lock:
            provider, self._provider = self._provider, None
        if provider is None or self._pid != os.getpid():
            return
        # The SDK's own way to end waits for half a minute.
        ending = Thread(target=provider.shutdown, name="last-spans", daemon=True)
        ending.start()
        ending.join(seconds)

    def _own_tracer(self) -> Tracer:
        if self._tracer is None or self._pid != os.getpid():
            with self._lock:
                if self._tracer is None or self._pid != os.getpid():
                    self._tracer = self._make_tracer()
                    self._pid = os.getpid()
        return self._tracer

    def _make_tracer(self) -> Tracer:
        settings = self._settings
        self._provider = TracerProvider(
            # Whether a trace is sampled has been decided.
            sampler=ALWAYS_ON,
            resource=Resource.create({SERVICE_NAME: settings.service_name}),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(LoggedExporter(settings), max_export_batch_size=BATCH_SPANS)
        )
        return self._provider.get_tracer("gateway")


class LoggedExporter(SpanExporter):
    """OTLP over HTTP; that spans are lost, or sent again, is told in a line, once."""

    def __init__(self, settings: TracingSettings) -> None:
        session = Session()
        # Or requests would put what it finds in a netrc into Authorization.
        session.trust_env = False
        self._words = SdkLogThrottle()
        self._exporter = OTLPSpanExporter(
            endpoint=f"{settings.otlp_endpoint}{PATH}",
            headers={name: value.get_secret_value() for name, value in settings.headers.items()},
            session=session,
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._words.end()
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class SdkLogThrottle(logging.Handler):
    """Takes all that the SDK has to complain about, and passes on the first of it, until it goes well again."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._is_failing = False
        self._told_at = -SECONDS_BETWEEN_WORDS
        sdk = logging.getLogger("opentelemetry")
        sdk.handlers, sdk.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if not self._is_failing and now - self._told_at >= SECONDS_BETWEEN_WORDS:
            self._is_failing, self._told_at = True, now
            log.warning("spans are not exported: %s", record.getMessage())

    def end(self) -> None:
        if self._is_failing:
            self._is_failing = False
            log.warning("spans are exported again")


class PresetIdGenerator(RandomIdGenerator):
    """The ids that were given for the next span of this thread."""

    def __init__(self) -> None:
        self._next = local()

    def give(self, trace_id: str, span_id: str) -> None:
        self._next.trace_id, self._next.span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        return int(self._next.trace_id, 16)

    def generate_span_id(self) -> int:
        return int(self._next.span_id, 16) if self._next.span_id else super().generate_span_id()


def parent_context(trace: Trace) -> Context:
    """What the first span here is a child of: the span that asked, or nothing."""
    if not trace.parent_id:
        return Context()
    asked_by = SpanContext(
        int(trace.trace_id, 16),
        int(trace.parent_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(trace.flags),
        trace_state=TraceState.from_header([trace.state]),
    )
    return set_span_in_context(NonRecordingSpan(asked_by), Context())
