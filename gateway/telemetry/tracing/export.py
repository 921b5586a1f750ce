"""Passes spans to the OpenTelemetry SDK, which sends them to a collector by OTLP, in batches from a background thread.

Importing this module fails if the SDK is not installed. For what the gateway has no settings for, the SDK reads its own
environment variables (OTEL_BSP_*, OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_RESOURCE_ATTRIBUTES, …).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from threading import Thread

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
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
# At its end, a worker waits this long for spans that are not sent yet.
FLUSH_SECONDS = 1.0
# Encoding a batch uses CPU time that requests of the same gevent worker wait for, so batches are small.
BATCH_SPANS = 64
LOG_INTERVAL_SECONDS = 60.0

log = logging.getLogger(__name__)


class SpanExport:
    """Exports the spans of this process. The SDK's thread and connection start with the first span, and so after the
    fork. Callers never wait for the collector."""

    def __init__(self, settings: TracingSettings) -> None:
        self._settings = settings
        self._ids = PresetIdGenerator()
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None

    def send(self, trace: Trace, outer: SpanRecord, inner: Iterable[SpanRecord]) -> None:
        """Exports a span and its child spans. Called by one thread at a time."""
        tracer = self._tracer = self._tracer or self._make_tracer()
        wall, monotonic = time.time_ns(), time.monotonic()

        def at(moment: float) -> int:
            return wall - round((monotonic - moment) * 1e9)

        def start(record: SpanRecord, context: Context) -> Span:
            self._ids.trace_id, self._ids.span_id = trace.trace_id, record.span_id
            span = tracer.start_span(
                record.name, context, KINDS[record.kind], record.attributes, start_time=at(record.started)
            )
            if record.is_error:
                span.set_status(StatusCode.ERROR)
            return span

        span = start(outer, parent_context(trace))
        inner_context = set_span_in_context(span, Context())
        for record in inner:
            start(record, inner_context).end(at(record.ended))
        span.end(at(outer.ended))

    def close(self) -> None:
        """Sends the queued spans of this process; gives up after FLUSH_SECONDS."""
        if self._provider is not None:
            # A separate thread can be abandoned: the SDK's shutdown waits for up to 30 seconds.
            shutdown = Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
            shutdown.start()
            shutdown.join(FLUSH_SECONDS)

    def _make_tracer(self) -> Tracer:
        settings = self._settings
        self._provider = TracerProvider(
            # The gateway has decided about sampling: only spans of sampled traces get here.
            sampler=ALWAYS_ON,
            resource=Resource.create({SERVICE_NAME: settings.service_name}),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(LoggedExporter(settings), max_export_batch_size=BATCH_SPANS)
        )
        return self._provider.get_tracer("gateway")


class LoggedExporter(OTLPSpanExporter):
    """Exports by OTLP over HTTP. Logs one line when exports start to fail, and one when they succeed again."""

    def __init__(self, settings: TracingSettings) -> None:
        session = Session()
        # With True, requests would send credentials from a .netrc file as Authorization.
        session.trust_env = False
        self._throttle = SdkLogThrottle()
        super().__init__(
            endpoint=f"{settings.otlp_endpoint}{PATH}",
            headers={name: value.get_secret_value() for name, value in settings.headers.items()},
            session=session,
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self._throttle.note_success()
        return result


class SdkLogThrottle(logging.Handler):
    """Replaces the SDK's log handlers. Of a series of warnings, logs only the first one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._is_failing = False
        self._logged_at = -LOG_INTERVAL_SECONDS
        sdk = logging.getLogger("opentelemetry")
        sdk.handlers, sdk.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if not self._is_failing and now - self._logged_at >= LOG_INTERVAL_SECONDS:
            self._is_failing, self._logged_at = True, now
            log.warning("spans are not exported: %s", record.getMessage())

    def note_success(self) -> None:
        if self._is_failing:
            self._is_failing = False
            log.warning("spans are exported again")


class PresetIdGenerator(RandomIdGenerator):
    """Gives the next span the ids that the caller has set before."""

    trace_id = span_id = ""

    def generate_trace_id(self) -> int:
        return int(self.trace_id, 16)

    def generate_span_id(self) -> int:
        return int(self.span_id, 16) if self.span_id else super().generate_span_id()


def parent_context(trace: Trace) -> Context:
    """Returns a context with the client's span as parent; an empty one if the trace starts here."""
    if not trace.parent_id:
        return Context()
    parent = SpanContext(
        int(trace.trace_id, 16),
        int(trace.parent_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(trace.flags),
        trace_state=TraceState.from_header([trace.state]),
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())
