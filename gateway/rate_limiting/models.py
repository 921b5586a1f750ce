"""The data of rate limiting: limits to check, their results, and revocations to look up in the same round trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.config import OnRedisFailure
from gateway.config.limit_syntax import Algorithm


@dataclass(slots=True)
class LimitCheck:
    """One limit that a request has to pass, and the key of its counter. The request costs `cost` of `amount` per
    `window_seconds`. A bucket holds at most `burst` and gains `amount` per window."""

    key: str
    amount: int
    window_seconds: int
    cost: int = 1
    algorithm: Algorithm = "sliding"
    burst: int = 0

    @property
    def capacity(self) -> int:
        """The most that can be consumed at once."""
        return self.burst if self.algorithm == "bucket" else self.amount


@dataclass(slots=True)
class LimitResult:
    """The result of one check. `reset_seconds` is the time until the whole limit is available again. If the request was
    charged, `remaining` and `reset_seconds` include it. `retry_after_seconds` is the time until the same cost would
    pass, 0 if it passed."""

    passed: bool
    remaining: int
    reset_seconds: float
    retry_after_seconds: float
    capacity: int


@dataclass(slots=True)
class RevocationLookup:
    """Redis keys to read in the call that checks the limits. The call sets `values`: a number for each key, None for a
    key that does not exist. `values` stays None if the call failed."""

    keys: Sequence[str]
    values: list[int | None] | None = None


@dataclass(slots=True)
class RateLimitState:
    """Rate limiting of one request: the limits that apply to it, and their results once they are checked. Times are
    monotonic seconds, 0 until then."""

    checks: list[LimitCheck] = field(default_factory=list)
    # The name of each limit in response headers and problem documents, in the order of `checks`.
    names: tuple[str, ...] = ()
    # Selects the cluster node; see HashTags in `gateway.redis.cluster`.
    partition_key: str = ""
    # In observe mode an exceeded limit is reported, not enforced.
    observed: bool = False
    # None if the gateway's own setting applies.
    on_failure: OnRedisFailure | None = None
    revocation_lookup: RevocationLookup | None = None
    # Empty until the limits are checked, and afterwards if nothing could be counted (on_redis_failure = "open").
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
