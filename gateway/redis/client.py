"""The client: short timeouts, no retries. To go on without Redis is its callers' decision, not a matter of waiting."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from gevent.monkey import is_module_patched
from redis import BlockingConnectionPool, Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.config import Settings
from gateway.config.redis_url import RedisAddress, parse_redis_url
from gateway.redis.cluster import ClusterClient
from gateway.redis.connection_classes import use_own_connections
from gateway.redis.connection_pool import Connections
from gateway.redis.hash_tags import CLUSTER_PARTITIONS, HashTags
from gateway.redis.multiplexed import MultiplexedConnection
from gateway.redis.sentinel import master_client

# Each is busy for less than a millisecond at a time. A request that finds none free waits for one: redis-py's usual
# pool would fail it as if Redis were gone.
MAX_CONNECTIONS = 64
# All that a client raises when Redis fails.
FAILURES: tuple[type[Exception], ...] = (RedisError, OSError)


class SharedRedis:
    """The Redis that gateways share: one server, a master behind sentinels, or a cluster. Connects when first used, so
    that it can be made before a fork.

    `prefix` comes before all keys. Raises ValueError for a URL that can't be read, its methods one of FAILURES."""

    def __init__(self, url: str, timeout_seconds: float, prefix: str = "") -> None:
        address = parse_redis_url(url)
        self._client = make_client(address, timeout_seconds)
        # The same client, where it is one of a cluster.
        self.cluster = self._client if isinstance(self._client, ClusterClient) else None
        self._connections: Connections | MultiplexedConnection | None = None
        if address.kind == "server":
            pool = client_by_url(address.url, connection_options(timeout_seconds)).connection_pool
            # TLS has bytes of its own between those of the connection and those of the replies.
            if is_module_patched("socket") and not address.url.startswith("rediss:"):
                self._connections = MultiplexedConnection(pool, timeout_seconds)
            else:
                self._connections = Connections(pool, MAX_CONNECTIONS, timeout_seconds)
        self.hash_tags = HashTags(CLUSTER_PARTITIONS if address.kind == "cluster" else 1, prefix)

    @classmethod
    def configured(cls, settings: Settings, timeout_seconds: float) -> SharedRedis | None:
        """The one of `redis_url`, with keys that begin with `redis_prefix`; None where no URL is set."""
        if settings.redis_url is None:
            return None
        return cls(settings.redis_url.get_secret_value(), timeout_seconds, settings.redis_prefix)

    def run(self, key: str, *command: str | int | bytes) -> Any:
        """The reply to a command that is about this key (in a cluster, about its slot)."""
        if self._connections is not None:
            return self._connections.run(*command)
        if self.cluster is not None:
            return self.cluster.run(key, *command)
        client: Any = self._client
        return client.execute_command(*command)

    def drop_connections(self) -> None:
        """What was replied makes no sense: who else is there, or replies to something else, is not asked again."""
        if self._connections is not None:
            self._connections.close()

    def scan(self, pattern: str) -> Iterator[str]:
        """Each key that is like the pattern, once; on all nodes of a cluster."""
        seen: set[str] = set()
        for client in self._client.masters() if isinstance(self._client, ClusterClient) else [self._client]:
            for key in client.scan_iter(match=pattern, count=1000):
                if (name := key.decode("utf-8", "replace")) not in seen:
                    seen.add(name)
                    yield name

    def close(self) -> None:
        self._client.close()
        if self._connections is not None:
            self._connections.close()


def make_client(address: RedisAddress, timeout_seconds: float) -> Redis | ClusterClient:
    options = connection_options(timeout_seconds)
    pooled = {"max_connections": MAX_CONNECTIONS, "timeout": timeout_seconds}
    match address.kind:
        case "server":
            return client_by_url(address.url, pooled | options)
        case "sentinel":
            return master_client(
                list(address.nodes),
                address.master,
                timeout_seconds,
                MAX_CONNECTIONS,
                address.is_tls,
                options | address.options,
                options | address.sentinel_options,
            )
        case "cluster":
            scheme = "rediss" if address.is_tls else "redis"
            connect = partial(client_of_node, scheme, pooled | options | address.options)
            return ClusterClient(address.nodes, timeout_seconds, connect)


def connection_options(timeout_seconds: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "health_check_interval": 0,
        "protocol": 2,
        # redis-py's own retries are ten, with a wait before each.
        "retry": Retry(NoBackoff(), 0),
    }


def client_by_url(url: str, options: dict[str, Any]) -> Redis:
    client = Redis(connection_pool=BlockingConnectionPool.from_url(url, **options))
    use_own_connections(client)
    return client


def client_of_node(scheme: str, options: dict[str, Any], host: str, port: int) -> Redis:
    return client_by_url(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}", options)
