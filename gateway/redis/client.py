"""The Redis client: short timeouts, no retries. If Redis fails, the callers of the client decide how to continue; none
of them waits until Redis works again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from gevent.monkey import is_module_patched
from redis import BlockingConnectionPool, Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse
from redis.retry import Retry

from gateway.config import Settings
from gateway.config.redis_url import RedisAddress, parse_redis_url
from gateway.redis.cluster import CLUSTER_PARTITIONS, ClusterClient, HashTags
from gateway.redis.connection_classes import use_own_connections
from gateway.redis.multiplexed import MultiplexedClient
from gateway.redis.sentinel import master_client

# A request that finds all connections in use waits for one; a connection is used for less than a millisecond at a time.
# redis-py's default pool would raise an exception instead of waiting, as if Redis had failed.
MAX_CONNECTIONS = 64
# All exceptions that a client raises if Redis fails.
FAILURES: tuple[type[Exception], ...] = (RedisError, OSError)


class SharedRedis:
    """The Redis that gateways share: one server, a master behind sentinels, or a cluster. Connects on first use, so
    that it can be created before a fork.

    All keys begin with `prefix`. Raises ValueError for an invalid URL; its methods raise one of FAILURES."""

    def __init__(self, url: str, timeout_seconds: float, prefix: str = "") -> None:
        address = parse_redis_url(url)
        client = make_client(address, timeout_seconds)
        self._client = client
        self.cluster = client if isinstance(client, ClusterClient) else None
        # One connection for all requests of a gevent worker. With redis-py's own client, a command would take half as
        # long again.
        self._multiplexed: MultiplexedClient | None = None
        if address.kind == "server" and isinstance(client, Redis) and is_module_patched("socket"):
            self._multiplexed = MultiplexedClient(client.connection_pool, timeout_seconds)
        self.hash_tags = HashTags(CLUSTER_PARTITIONS if address.kind == "cluster" else 1, prefix)

    @classmethod
    def configured(cls, settings: Settings, timeout_seconds: float) -> SharedRedis | None:
        """The Redis of the settings; None if `redis_url` is not set."""
        if settings.redis_url is None:
            return None
        return cls(settings.redis_url.get_secret_value(), timeout_seconds, settings.redis_prefix)

    def run(self, key: str, *command: str | int | bytes) -> Any:
        """Runs a command and returns the reply. In a cluster, the command runs on the node that has `key`."""
        if self._multiplexed is not None:
            return self._multiplexed.run(*command)
        if self.cluster is not None:
            return self.cluster.run(key, *command)
        client: Any = self._client
        try:
            return client.execute_command(*command)
        except ValueError as error:
            # redis-py raises ValueError for an error reply that it can't parse.
            raise InvalidResponse("the server's reply can't be parsed") from error

    def drop_connections(self) -> None:
        """Closes connections after a reply that makes no sense: they are out of step, or the server is not Redis."""
        if self._multiplexed is not None:
            self._multiplexed.close()
        if isinstance(self._client, Redis):
            self._client.connection_pool.disconnect(inuse_connections=False)

    def scan(self, pattern: str) -> Iterator[str]:
        """Yields each key that matches the pattern once; in a cluster, the keys of all nodes."""
        seen: set[str] = set()
        for client in self._client.masters() if isinstance(self._client, ClusterClient) else [self._client]:
            for key in client.scan_iter(match=pattern, count=1000):
                if (name := key.decode("utf-8", "replace")) not in seen:
                    seen.add(name)
                    yield name

    def close(self) -> None:
        self._client.close()
        if self._multiplexed is not None:
            self._multiplexed.close()


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
        # redis-py retries ten times by default, with a wait before each.
        "retry": Retry(NoBackoff(), 0),
    }


def client_by_url(url: str, options: dict[str, Any]) -> Redis:
    client = Redis(connection_pool=BlockingConnectionPool.from_url(url, **options))
    use_own_connections(client)
    return client


def client_of_node(scheme: str, options: dict[str, Any], host: str, port: int) -> Redis:
    return client_by_url(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}", options)
