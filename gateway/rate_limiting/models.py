"""What is asked of the counters for one request, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    the ask."""

    passed: bool
    remaining: int
    reset_seconds: float
    retry_after_seconds: float
    capacity: int
