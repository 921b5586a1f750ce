"""Circuit breaker for one Redis server, so that a hung Redis costs at most one timeout per worker and second.

After a failure the worker does not call the server for a second. Then one request tries it, while all others go
straight to the fallback.
"""

from __future__ import annotations

from redis.exceptions import ResponseError

PAUSE_SECONDS = 1.0


class RedisBreaker:
    """The state of one Redis server, in a cluster of one node. Times are monotonic seconds."""

    __slots__ = ("_next_try", "can_read", "is_failing", "partition_key")

    def __init__(self) -> None:
        self.is_failing = False
        # The last failure was an error reply: this Redis refuses to count, but can still be read.
        self.can_read = False
        # Of the call that failed. A call with the same key reaches this node, or the one that has replaced it.
        self.partition_key = ""
        self._next_try = 0.0

    def may_try(self, now: float) -> bool:
        """Whether the server may be called. While it fails, this is True once per pause."""
        if not self.is_failing:
            return True
        if now < self._next_try:
            return False
        self._next_try = now + PAUSE_SECONDS
        return True

    def open(self, error: Exception, now: float, partition_key: str) -> None:
        self.is_failing = True
        self.can_read = isinstance(error, ResponseError)
        self.partition_key = partition_key
        self._next_try = now + PAUSE_SECONDS

    def close(self) -> None:
        self.is_failing = self.can_read = False
