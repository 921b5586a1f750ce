"""What is counted for operators, in the Prometheus text format; right over all workers of a gateway.

prometheus_client decides when it is imported whether it counts for one process or, in files of a folder, for several:
gunicorn's master makes that folder first (`worker_files`). Labels come from the configuration or
from lists in the code, never from what a client sends.
"""

from __future__ import annotations

import os
import struct
import time
from contextlib import suppress
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.system.native_threads import run_in_native_thread
from gateway.telemetry.metrics.histograms import Gathered
from gateway.telemetry.metrics.worker_files import FOLDER_VARIABLE, current_slot

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# Bounds of histograms: from what the gateway itself takes to where clients give up.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SCRAPE_ATTEMPTS, RETRY_SECONDS = 200, 0.01

IS_MULTIPROCESS = FOLDER_VARIABLE in os.environ
if IS_MULTIPROCESS:
    values.ValueClass = values.MultiProcessValue(current_slot)  # type: ignore[no-untyped-call]


class Metrics:
    """The gateway's counters; each worker counts for itself, `exposition` adds them up."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter(
            "gateway_requests", "Requests answered, by class of status.", "service", "route", "method", "status"
        )
        self.request_seconds = self._histogram(
            "gateway_request_seconds", "From a request's head to the last byte of its answer.", "service"
        )
        self.upstream_seconds = self._histogram(
            "gateway_upstream_seconds", "Until the head of the service's answer was there, retries included.", "service"
        )
        self.redis_seconds = Gathered(self._histogram("gateway_redis_seconds", "A request's one call of Redis."))
        self.token_refusals = self._counter(
            "gateway_token_refusals", "Requests refused for want of a good token, by reason.", "reason"
        )
        self.revocations_unseen = self._counter(
            "gateway_revocations_unseen", "Verified tokens of which could not be seen whether they are revoked."
        )

        self.quota_refusals = self._counter(
            "gateway_quota_refusals",
            "Requests over their quota; those of mode observe went through all the same.",
            "service",
            "route",
            "mode",
        )
        self.quota_fallbacks = self._counter(
            "gateway_quota_fallbacks", "Requests whose quota was decided without Redis, by on_redis_failure.", "way"
        )
        self.undocumented = self._counter(
            "gateway_undocumented_requests", "Requests that their service's document does not know.", "service", "mode"
        )
        self.retries = self._counter("gateway_retries", "Requests that were sent again, by service.", "service")
        self.breaker_openings = self._counter(
            "gateway_breaker_openings", "How often a target was found failing and left alone.", "service", "target"
        )
        self.log_lines_lost = self._counter(
            "gateway_log_lines_lost", "Lines of the access log that could not be written."
        )
        self.redis_failures = self._counter("gateway_redis_failures", "Calls to Redis that failed.")
        self.redis_down = self._gauge("gateway_redis_down", "Workers that do without Redis as it failed.")
        self.own_seconds = self._counter(
            "gateway_own_seconds", "What the gateway itself took until the heads of answers were there.", "service"
        )
        self.worker_starts = self._counter("gateway_worker_starts", "Workers that have started.")

        # How the workers that live are at this moment, as `gateway.telemetry.gauges` looks at them.
        self.workers = self._gauge("gateway_workers", "Workers that serve.")
        self.worker_memory = self._gauge(
            "gateway_worker_memory_bytes", "Resident memory of the worker that has most.", mode="livemax"
        )
        self.client_connections = self._gauge(
            "gateway_client_connections", "Clients' connections: waiting for a request, or serving one.", "state"
        )
        self.in_flight = self._gauge(
            "gateway_requests_in_flight", "Requests of a service whose answers have not ended.", "service"
        )
        self.in_flight_limit = self._gauge(
            "gateway_requests_in_flight_limit", "Above so many over all workers a service is overloaded.", "service"
        )
        self.upstream_connections = self._gauge(
            "gateway_upstream_connections",
            "Connections to a target, in use or kept idle.",
            "service",
            "target",
            "state",
        )
        self.breaker_open = self._gauge(
            "gateway_breaker_open", "Workers that leave a target alone as it failed.", "service", "target"
        )
        self.target_unwell = self._gauge(
            "gateway_target_unwell", "Workers whose health checks find a target unwell.", "service", "target"
        )
        self.target_unknown = self._gauge(
            "gateway_target_unknown",
            "Workers whose health checks have not found out about a target yet.",
            "service",
            "target",
        )
        self.jwks_loaded = self._gauge(
            "gateway_jwks_loaded_timestamp_seconds",
            "When an issuer's keys were loaded, by the worker that has the oldest.",
            "issuer",
            mode="livemin",
        )
        self.jwks_failing = self._gauge(
            "gateway_jwks_failing", "Workers that could not load an issuer's keys the last time.", "issuer"
        )
        self.document_current = self._gauge(
            "gateway_document_current_timestamp_seconds",
            "When a service's document was last seen to be current, or since when it can't be renewed.",
            "service",
            mode="livemin",
        )
        self.document_failing = self._gauge(
            "gateway_document_failing", "Workers that know that a service's document can't be renewed.", "service"
        )

    def exposition(self) -> bytes:
        """The metrics of all workers, living and ended, in the text format. Raises what prometheus_client raises for
        files that stay unreadable."""
        if not IS_MULTIPROCESS:
            return generate_latest(self._registry)
        collector = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        for _ in range(SCRAPE_ATTEMPTS):
            with suppress(FileNotFoundError, struct.error):
                return run_in_native_thread(lambda: generate_latest(collector))
            # A worker has just created a file that is still empty, or the master has deleted an unreadable one.
            time.sleep(RETRY_SECONDS)
        return generate_latest(collector)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=SECONDS, registry=self._registry)

    def _gauge(
        self, name: str, text: str, *labels: str, mode: Literal["livesum", "livemin", "livemax"] = "livesum"
    ) -> Gauge:
        """Of the workers that live, none of those that have ended."""
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode=mode)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)
