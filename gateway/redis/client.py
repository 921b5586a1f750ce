"""The client: short timeouts, no retries. To go on without Redis is its callers' decision, not a matter of waiting."""

from __future__ import annotations

from threading import Lock
from typing import Any, cast

from redis import BlockingConnectionPool, ConnectionPool, Redis, RedisCluster, RedisError
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

from gateway.config.redis_url import RedisAddress, parse_redis_url
from gateway.redis.partitions import CLUSTER_PARTITIONS, Partitions

# Each is busy for less than a millisecond at a time. A request that finds none free waits for one: redis-py's usual
# pool would fail it as if Redis were gone.
MAX_CONNECTIONS = 64
# All that a client raises when Redis fails. What redis-py raises about clusters is not among its RedisErrors.
FAILURES: tuple[type[Exception], ...] = (RedisError, RedisClusterException, OSError)


class SharedRedis:
    """The Redis that gateways share: one server, a master behind sentinels, or a cluster. Connects when first used.

    Raises ValueError for a URL that can't be read."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._address = parse_redis_url(url)
        self._timeout_seconds = timeout_seconds
        self._client: Redis | None = None
        self._lock = Lock()
        self.partitions = Partitions(CLUSTER_PARTITIONS if self._address.kind == "cluster" else 1)

    @property
    def client(self) -> Redis:
        """Raises one of FAILURES where it has to ask a cluster for its nodes first, and none answers."""
        if self._client is None:
            with self._lock:
                if self._client is None:
                    self._client = make_client(self._address, self._timeout_seconds)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def make_client(address: RedisAddress, timeout_seconds: float) -> Redis:
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "health_check_interval": 0,
        "protocol": 2,
    }
    # redis-py's own retries are ten, with a wait before each.
    retry = Retry(NoBackoff(), 0)
    match address.kind:
        case "server":
            pool: ConnectionPool = BlockingConnectionPool.from_url(
                address.url, max_connections=MAX_CONNECTIONS, timeout=timeout_seconds, retry=retry, **options
            )
            return Redis(connection_pool=pool)
        case "sentinel":
            options |= {"retry": retry} | ({"ssl": True} if address.is_tls else {})
            sentinel_options = options | address.sentinel_options
            sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
                list(address.nodes), sentinel_kwargs=sentinel_options, **options, **address.options
            )
            master: Redis = sentinel.master_for(address.master)
            return master
        case "cluster":
            options |= {"ssl": address.is_tls} | address.options
            nodes = [ClusterNode(host, port) for host, port in address.nodes]  # type: ignore[no-untyped-call]
            # It takes the same commands; redis-py just doesn't say so.
            return cast(Redis, RedisCluster(startup_nodes=nodes, retry=retry, **options))
