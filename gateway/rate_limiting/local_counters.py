"""Counters in this process, for a gateway without Redis, and while Redis fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

from gateway.rate_limiting.algorithms import State, decide
from gateway.rate_limiting.models import LimitCheck, LimitResult

MAX_LOCAL_KEYS = 100_000
# Longer keys are hashed: with subjects of 8 KiB, the keys alone would take 800 MiB.
MAX_KEY_LENGTH = 128


class LocalCounters:
    """At most MAX_LOCAL_KEYS counters: the ones that were charged least recently are dropped first. `clock` gives
    seconds. No lock is needed: greenlets switch only where they wait, and nothing here waits."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._states: dict[str | bytes, State] = {}

    def consume(self, checks: Sequence[LimitCheck], *, dry_run: bool = False) -> list[LimitResult]:
        """Returns the result of each check. Charges all limits, or none if one refuses or with `dry_run`."""
        now = round(self._clock() * 1000)
        keys = [stored_key(check.key) for check in checks]
        decisions = [decide(check, now, self._states.get(key)) for check, key in zip(checks, keys, strict=True)]
        if dry_run or not all(decision.uncharged.passed for decision in decisions):
            return [decision.uncharged for decision in decisions]
        for key, decision in zip(keys, decisions, strict=True):
            self._states.pop(key, None)
            self._states[key] = decision.state
        while len(self._states) > MAX_LOCAL_KEYS:
            del self._states[next(iter(self._states))]
        return [decision.charged for decision in decisions]

    def clear(self, key: str) -> None:
        self._states.pop(stored_key(key), None)

    def clear_all(self) -> int:
        """Removes every counter; returns how many there were."""
        count = len(self._states)
        self._states.clear()
        return count


def stored_key(key: str) -> str | bytes:
    if len(key) <= MAX_KEY_LENGTH:
        return key
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
