"""The client: short timeouts, no retries. What to do without Redis is its callers' decision, not a matter of waiting."""

from __future__ import annotations

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_SECONDS = 0.1


def connect(url: str) -> Redis:
    """A client with a pool of connections, made when first used. Raises ValueError for a URL that can't be read."""
    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        # redis-py's own retries are ten, with a wait before each.
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        protocol=2,
    )
