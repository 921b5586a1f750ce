"""What is counted for operators, in the Prometheus text format; right over all workers of a gateway.

prometheus_client decides when it is imported whether it counts for one process or, in files of a folder, for several:
gunicorn's master makes that folder first (`gateway.serving.metrics_folder`). Labels come from the configuration or
from lists in the code, never from what a client sends.
"""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import ValueClass

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
COUNTS_FOR_SEVERAL: bool = ValueClass._multiprocess


class Metrics:
    """The gateway's counters; each worker counts for itself, `exposition` adds them up."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
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
        # The sum over the workers that live: how many of them do without Redis at the moment.
        self.redis_down = Gauge(
            "gateway_redis_down",
            "Workers that do without Redis as it failed.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def exposition(self) -> bytes:
        """All of it as text, of all workers that live or have lived."""
        if not COUNTS_FOR_SEVERAL:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)
