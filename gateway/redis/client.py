"""The client: short timeouts, no retries. To go on without Redis is its callers' decision, not a matter of waiting."""

from __future__ import annotations

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_SECONDS = 0.1
# Each is busy for less than a millisecond at a time. A request that finds none free waits for one: redis-py's usual
# pool would fail it as if Redis were gone.
MAX_CONNECTIONS = 64


def connect(url: str) -> Redis:
    """A client with a pool of connections, made when first used. Raises ValueError for a URL that can't be read."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        # redis-py's own retries are ten, with a wait before each.
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        protocol=2,
    )
    return Redis(connection_pool=pool)
