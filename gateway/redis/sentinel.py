"""A master behind sentinels: who it is is asked for each new connection, and connections to another one end."""

from __future__ import annotations

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

from gateway.redis.connection_classes import TimedConnection, TlsConnection, use_own_connections
from gateway.redis.first_response import Address, FirstAnswer, node_address


class Sentinels(Sentinel):
    """redis-py asks one sentinel after the other, so that each that hangs costs a timeout for each new connection."""

    def __init__(self, nodes: list[Address], timeout_seconds: float, options: dict[str, Any], **more: Any) -> None:
        super().__init__(nodes, sentinel_kwargs=options, **more)  # type: ignore[no-untyped-call]
        self._timeout_seconds = timeout_seconds
        self._questions: dict[str, FirstAnswer[Redis, Address]] = {}
        self._last: dict[str, Address] = {}

    def discover_master(self, service_name: str) -> Address:
        """Raises RedisError or OSError where no sentinel knows a master that is up."""
        question = self._questions.setdefault(
            service_name, FirstAnswer(lambda sentinel: self._ask(sentinel, service_name), self._timeout_seconds)
        )
        try:
            master = question.get(self.sentinels)
        except MasterNotFoundError:
            raise
        except (RedisConnectionError, RedisTimeout, OSError):
            # Without sentinels nobody fails over, and the master goes on.
            if service_name in self._last:
                return self._last[service_name]
            raise
        self._last[service_name] = master
        return master

    def _ask(self, sentinel: Redis, service_name: str) -> Address:
        masters: Any = sentinel.sentinel_masters()
        state = masters.get(service_name)
        if not state or not self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
            raise MasterNotFoundError(f"no master that is up is called {service_name!r}")
        return node_address(state["ip"], state["port"])


class MasterConnection(SentinelManagedConnection, TimedConnection):
    """A connection to the master."""


class MasterTlsConnection(SentinelManagedConnection, TlsConnection):
    """The same by TLS."""


class MasterPool(SentinelConnectionPool, BlockingConnectionPool):
    """Waits for a free connection, as the pool for a single server does."""

    def owns_connection(self, connection: ConnectionInterface) -> bool:
        # redis-py's gives up connections whose master is not known, and keeps each in a list for ever.
        return bool(BlockingConnectionPool.owns_connection(self, connection))  # type: ignore[arg-type]

    def release(self, connection: Any) -> None:
        # One that was in use when the master changed asks again the next time.
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
    """A client of the master of that name. Connects when first used."""
    sentinels = Sentinels(nodes, timeout_seconds, sentinel_options | ({"ssl": True} if is_tls else {}), **options)
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
