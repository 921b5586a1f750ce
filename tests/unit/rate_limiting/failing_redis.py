"""A FallbackLimiter whose Redis works or fails as a test needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.rate_limiting.local_counters import LocalCounters
from gateway.rate_limiting.models import LimitCheck, LimitResult, RevocationLookup
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.redis.addresses import Address
from gateway.telemetry.metrics.registry import Metrics

FROM_REDIS = LimitResult(True, 99, 5, 0, 100)


class FailingCounters(RedisCounters):
    """Counters that return FROM_REDIS, or raise `error` if it is set. They count their calls."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def consume(
        self,
        checks: Sequence[LimitCheck],
        lookup: RevocationLookup | None = None,  # noqa: ARG002
        partition_key: str = "",  # noqa: ARG002
        *,
        dry_run: bool = False,  # noqa: ARG002
    ) -> list[LimitResult]:
        self.calls += 1
        error = self.error
        self.meanwhile()
        if error is not None:
            raise error
        return [FROM_REDIS] * len(checks)

    def node_of(self, partition_key: str) -> None:  # noqa: ARG002
        return None

    def has_node(self, address: Address | None) -> bool:  # noqa: ARG002
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Setup:
    def __init__(self, on_failure: str, workers: int = 1, *, with_redis: bool = True) -> None:
        self.redis = FailingCounters()
        self.clock = Clock()
        self.rate_limiter = FallbackLimiter(
            self.redis if with_redis else None,
            LocalCounters(self.clock),
            on_failure,  # type: ignore[arg-type] # parametrized
            workers,
            self.clock,
            Metrics(),
        )

    def consume(self, amount: int = 10, key: str = "ada") -> list[LimitResult]:
        return self.rate_limiter.consume([LimitCheck(key, amount, 3600)])

    def passed_locally(self, amount: int, tries: int = 100) -> int:
        return sum(self.consume(amount)[0].passed for _ in range(tries))
