"""Circuit breaker for one Redis server, so that a hung Redis costs at most one timeout per worker and second.

After a failure the worker does not call the server for a second. Then one request tries the server, while all others go
straight to the fallback.
"""

from __future__ import annotations

from redis.exceptions import ResponseError

PAUSE_SECONDS = 1.0


class RedisBreaker:
    """Circuit breaker for one Redis server or one cluster node. Times are monotonic seconds."""

    __slots__ = ("_next_try", "can_read", "is_failing", "partition_key")

    def __init__(self) -> None:
        self.is_failing = False
        # Whether the last failure was an error reply: such a Redis refuses to count, but can still be read.
        self.can_read = False
        # The partition key of the call that failed. Another call with it reaches this node, or the node that has
        # replaced this one.
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
