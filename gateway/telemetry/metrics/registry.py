"""Defines every metric of the gateway, and exposes them in the Prometheus text format, summed over all workers.

prometheus_client decides at its import whether it counts in memory or in files; gunicorn's workers need files. So
gunicorn's master creates their folder first (`worker_files`). Label values come from the configuration and from fixed
lists, never from a client."""

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
from gateway.telemetry.metrics.histograms import DeferredHistogram
from gateway.telemetry.metrics.worker_files import FOLDER_VARIABLE, current_number

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# Bounds of histogram buckets. The least is about the time that the gateway itself needs, the largest is the time after
# which clients give up.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SCRAPE_ATTEMPTS, RETRY_SECONDS = 200, 0.01

IS_MULTIPROCESS = FOLDER_VARIABLE in os.environ
if IS_MULTIPROCESS:
    values.ValueClass = values.MultiProcessValue(current_number)  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics. Each worker counts on its own; `exposition` adds the workers up."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter(
            "gateway_requests", "Finished requests, by status class.", "service", "route", "method", "status"
        )
        self.request_seconds = self._histogram(
            "gateway_request_seconds",
            "Time from the head of a request to the last byte of its response, without streams.",
            "service",
        )
        self.upstream_seconds = self._histogram(
            "gateway_upstream_seconds",
            "Time until the head of the upstream's response arrived, including retries.",
            "service",
        )
        self.redis_seconds = DeferredHistogram(
            self._histogram("gateway_redis_seconds", "Time of the call to Redis that a request makes.")
        )
        self.token_refusals = self._counter(
            "gateway_token_refusals", "Requests refused because of a missing or invalid token, by reason.", "reason"
        )
        self.revocations_unseen = self._counter(
            "gateway_revocations_unseen", "Valid tokens accepted without a revocation check, because Redis failed."
        )

        self.quota_refusals = self._counter(
            "gateway_quota_refusals",
            "Requests that exceeded a rate limit; with mode observe they were forwarded.",
            "service",
            "route",
            "mode",
        )
        self.quota_fallbacks = self._counter(
            "gateway_quota_fallbacks", "Requests limited without Redis, by the on_redis_failure setting.", "way"
        )
        self.undocumented = self._counter(
            "gateway_undocumented_requests",
            "Requests for operations that are not in the service's API document.",
            "service",
            "mode",
        )
        self.retries = self._counter("gateway_retries", "Requests sent to an upstream again.", "service")
        self.breaker_openings = self._counter(
            "gateway_breaker_openings", "How often the breaker of a target opened.", "service", "target"
        )
        self.log_lines_lost = self._counter(
            "gateway_log_lines_lost", "Access log lines that could not be written and were dropped."
        )
        self.redis_failures = self._counter("gateway_redis_failures", "Failed calls to Redis.")
        self.redis_down = self._gauge("gateway_redis_down", "Workers that do not use Redis at present, as it failed.")
        self.own_seconds = self._counter(
            "gateway_own_seconds",
            "Time spent in the gateway itself until the heads of responses were ready, without Redis and upstreams.",
            "service",
        )
        self.worker_starts = self._counter("gateway_worker_starts", "Started workers.")

        # The present state of living workers; `gateway.telemetry.gauges` updates these.
        self.workers = self._gauge("gateway_workers", "Workers that serve requests.")
        self.worker_memory = self._gauge(
            "gateway_worker_memory_bytes", "Resident memory of the largest worker.", mode="livemax"
        )
        self.client_connections = self._gauge(
            "gateway_client_connections",
            "Client connections, waiting for a request or serving one.",
            "state",
        )
        self.in_flight = self._gauge("gateway_requests_in_flight", "Requests in flight.", "service")
        self.in_flight_limit = self._gauge(
            "gateway_requests_in_flight_limit",
            "The most requests that may be in flight, summed over all workers; further ones get 503.",
            "service",
        )
        self.upstream_connections = self._gauge(
            "gateway_upstream_connections",
            "Connections to a target, by state: in_use or idle.",
            "service",
            "target",
            "state",
        )
        self.breaker_open = self._gauge(
            "gateway_breaker_open",
            "Workers whose breaker of a target is open or half-open.",
            "service",
            "target",
        )
        self.target_unhealthy = self._gauge(
            "gateway_target_unhealthy", "Workers whose health checks of a target fail.", "service", "target"
        )
        self.target_unknown = self._gauge(
            "gateway_target_unknown",
            "Workers that have no health check result of a target yet.",
            "service",
            "target",
        )
        self.jwks_loaded = self._gauge(
            "gateway_jwks_loaded_timestamp_seconds",
            "When an issuer's keys were last loaded, in the worker with the oldest keys.",
            "issuer",
            mode="livemin",
        )
        self.jwks_failing = self._gauge(
            "gateway_jwks_failing", "Workers whose last attempt to load an issuer's keys failed.", "issuer"
        )
        self.document_current = self._gauge(
            "gateway_document_current_timestamp_seconds",
            "When a service's API document was last known to be current.",
            "service",
            mode="livemin",
        )
        self.document_failing = self._gauge(
            "gateway_document_failing", "Workers that can't refresh a service's API document.", "service"
        )

    def exposition(self) -> bytes:
        """Returns all metrics in the text format: counters and histograms of all workers, gauges of the living
        workers."""
        if not IS_MULTIPROCESS:
            return generate_latest(self._registry)
        collector = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        for _ in range(SCRAPE_ATTEMPTS):
            with suppress(FileNotFoundError, struct.error):
                return run_in_native_thread(lambda: generate_latest(collector))
            # A worker has just created a file, which is still empty, or the master has deleted an unreadable file.
            time.sleep(RETRY_SECONDS)
        return generate_latest(collector)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=SECONDS, registry=self._registry)

    def _gauge(
        self, name: str, text: str, *labels: str, mode: Literal["livesum", "livemin", "livemax"] = "livesum"
    ) -> Gauge:
        """Makes a gauge of living workers: prometheus_client deletes the values of workers that have ended."""
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode=mode)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)
