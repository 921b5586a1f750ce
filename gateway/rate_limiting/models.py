"""What is asked of the counters for one request, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.config import OnRedisFailure
from gateway.config.limit_text import Algorithm


@dataclass(slots=True)
class LimitCheck:
    """One limit that a request wants to pass, counted under `key`: `cost` of `amount` per `window_seconds`; of a bucket
    `amount` is how much it gains in that time, and `burst` what it holds."""

    key: str
    amount: int
    window_seconds: int
    cost: int = 1
    algorithm: Algorithm = "sliding"
    burst: int = 0

    @property
    def capacity(self) -> int:
        """The most that can be taken at once."""
        return self.burst if self.algorithm == "bucket" else self.amount


@dataclass(slots=True)
class RevocationLookup:
    """Keys to be looked up in the call that takes from the limits. `values` is filled in by it: a number for each
    key, None where there is none; it stays None as a whole where the call could not be made."""

    keys: Sequence[str]
    values: list[int | None] | None = None


@dataclass(slots=True)
class LimitResult:
    """What came of it. `remaining` is after this request; `reset_seconds` until all of the limit is free again, if
    nothing more is taken; `retry_after_seconds` until the same cost would pass, 0 where it did; `capacity` is that of
    the check."""

    passed: bool
    remaining: int
    reset_seconds: float
    retry_after_seconds: float
    capacity: int


@dataclass(slots=True)
class RateLimitState:
    """Rate limiting of one request: the limits that apply to it, and their results once they are checked. Times are
    monotonic seconds, 0 until then."""

    checks: list[LimitCheck] = field(default_factory=list)
    # The name of each limit in response headers and problem documents, in the order of `checks`.
    names: tuple[str, ...] = ()
    partition_key: str = ""
    # In observe mode an exceeded limit is reported, not enforced.
    observed: bool = False
    # None: as the gateway's settings say.
    on_failure: OnRedisFailure | None = None
    # Sent with the checks, so that both cost one round trip.
    revocation_lookup: RevocationLookup | None = None
    # Empty until the limits are checked, and if nothing could be counted (on_redis_failure = "open").
    results: list[LimitResult] = field(default_factory=list)
    is_checked: bool = False
    started_at: float = 0.0
    ended_at: float = 0.0

    @property
    def seconds(self) -> float:
        """How long the check took."""
        return self.ended_at - self.started_at

    @property
    def passed(self) -> bool:
        return all(result.passed for result in self.results)
