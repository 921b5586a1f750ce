"""Counts in this process: without Redis, and while it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from threading import Lock

from gateway.rate_limiting.algorithms import State, judge
from gateway.rate_limiting.models import LimitCheck, LimitResult

MAX_LOCAL_KEYS = 100_000
# Longer ones are hashed: with a subject of 8 KiB in each, the keys alone would be 800 MiB.
LONGEST_KEY = 128


class LocalCounters:
    """`clock` gives seconds. Bounded: the keys least recently charged go first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._states: dict[str | bytes, State] = {}
        self._lock = Lock()

    def consume(self, checks: Sequence[LimitCheck], *, dry_run: bool = False) -> list[LimitResult]:
        """The result of each limit; all are charged, or none where one refuses."""
        with self._lock:
            now = round(self._clock() * 1000)
            keys = [stored_key(check.key) for check in checks]
            judgements = [judge(check, now, self._states.get(key)) for check, key in zip(checks, keys, strict=True)]
            if dry_run or not all(one.result.passed for one in judgements):
                return [one.result for one in judgements]
            for key, one in zip(keys, judgements, strict=True):
                self._states.pop(key, None)
                self._states[key] = one.state
            while len(self._states) > MAX_LOCAL_KEYS:
                del self._states[next(iter(self._states))]
            return [one.charged for one in judgements]

    def forget(self, key: str) -> None:
        with self._lock:
            self._states.pop(stored_key(key), None)

    def forget_all(self) -> int:
        with self._lock:
            count = len(self._states)
            self._states.clear()
            return count


def stored_key(key: str) -> str | bytes:
    if len(key) <= LONGEST_KEY:
        return key
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
