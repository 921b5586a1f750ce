"""The client of a master behind sentinels. Each new connection asks the sentinels for the master's address; connections
to a former master are closed."""

from __future__ import annotations

from functools import partial
from typing import Any

from redis import BlockingConnectionPool, Redis
from redis.connection import ConnectionInterface
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)

from gateway.redis.addresses import Address, node_address
from gateway.redis.connection_classes import TimedConnection, TlsConnection, use_own_connections
from gateway.redis.first_response import FirstResponse


class Sentinels(Sentinel):
    """Asks all sentinels at once. redis-py asks one after the other, so that each one that hangs would add a timeout
    to every new connection."""

    def __init__(
        self, nodes: list[Address], master: str, timeout_seconds: float, options: dict[str, Any], **more: Any
    ) -> None:
        super().__init__(nodes, sentinel_kwargs=options, **more)  # type: ignore[no-untyped-call]
        self._lookup: FirstResponse[Redis, Address] = FirstResponse(partial(self._ask, master), timeout_seconds)
        self._last_known: Address | None = None

    def discover_master(self, service_name: str) -> Address:  # noqa: ARG002 - always that of this client
        """The master's address. If no sentinel replies, the last known one. Raises RedisError or OSError if there is
        none either, or if the sentinels know no master that is up."""
        try:
            self._last_known = self._lookup.get(self.sentinels)
        except MasterNotFoundError:
            raise
        except (RedisConnectionError, RedisTimeout, OSError):
            # Without sentinels there is no failover, so the last known master still is the master.
            if self._last_known is None:
                raise
        return self._last_known

    def _ask(self, master: str, sentinel: Redis) -> Address:
        masters: Any = sentinel.sentinel_masters()
        state = masters.get(master)
        if not state or not self.check_master_state(state, master):  # type: ignore[no-untyped-call]
            raise MasterNotFoundError(f"no master named {master!r} is up")
        return node_address(state["ip"], state["port"])


class MasterConnection(SentinelManagedConnection, TimedConnection):
    """A connection to the master."""


class MasterTlsConnection(SentinelManagedConnection, TlsConnection):
    """A connection to the master by TLS."""


class MasterPool(SentinelConnectionPool, BlockingConnectionPool):
    """The pool of connections to the master. A request that finds all connections in use waits for one, as with a
    single server."""

    def owns_connection(self, connection: ConnectionInterface) -> bool:
        # redis-py's pool would disown connections while the master is unknown. It replaces a disowned connection, but
        # never removes it from its list of all connections, which would grow.
        return bool(BlockingConnectionPool.owns_connection(self, connection))  # type: ignore[arg-type]

    def release(self, connection: Any) -> None:
        # If the master changed while the connection was in use, the connection is closed. When it is used next, it asks
        # for the master again.
        if (connection.host, connection.port) != self.master_address:
            connection.disconnect()
        super().release(connection)  # type: ignore[no-untyped-call]


def master_client(
    nodes: list[Address],
    master: str,
    timeout_seconds: float,
    max_connections: int,
    is_tls: bool,
    options: dict[str, Any],
    sentinel_options: dict[str, Any],
) -> Redis:
    """A client of the master with this name. Connects on first use."""
    sentinels = Sentinels(
        nodes, master, timeout_seconds, sentinel_options | ({"ssl": True} if is_tls else {}), **options
    )
    for sentinel in sentinels.sentinels:
        use_own_connections(sentinel)
    client: Redis = sentinels.master_for(  # type: ignore[no-untyped-call]
        master,
        connection_pool_class=MasterPool,
        connection_class=MasterTlsConnection if is_tls else MasterConnection,
        max_connections=max_connections,
        timeout=timeout_seconds,
    )
    return client
