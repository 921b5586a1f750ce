"""A cluster, asked within the same time as a single server.

redis-py's own client sleeps while a slot is moved or a master replaced, asks all nodes one after the other for the
slots when one fails, each waiting request anew, and has no pool in which a request waits for a connection. Here a
request is sent to the slot's node, follows redirections, and fails at once where that node does, unless others say that
the slot is another's by now.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from redis import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    InvalidResponse,
    MovedError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from gateway.redis.first_response import Address, FirstAnswer, node_address

# Each is one round trip. More of them in a row mean nodes that send requests to and fro.
MAX_REDIRECTIONS = 5
# Any of them knows about all slots.
MAX_ASKED_FOR_SLOTS = 6


class ClusterClient:
    """`connect` makes the client of one node; nothing connects before the first command.

    Methods raise RedisError or OSError."""

    def __init__(self, seeds: Sequence[Address], timeout_seconds: float, connect: Callable[[str, int], Redis]) -> None:
        self._seeds = seeds
        self._connect = connect
        self._nodes: dict[Address, Redis] = {}
        self._owners: dict[int, Address] = {}
        # The nodes that have slots.
        self.addresses: frozenset[Address] = frozenset()
        self._must_ask = True
        self._slots = FirstAnswer(self._slots_by, timeout_seconds)

    def run(self, key: str, *command: str | int | bytes) -> Any:
        """Runs a command on the node that has the key."""
        slot = key_slot(key.encode())
        address, is_asking = self._owner(slot), False
        for _ in range(1 + MAX_REDIRECTIONS):
            try:
                return self._send(address, is_asking, command)
            except AskError as redirection:
                # A node that doesn't know its own address leaves the host out.
                host = redirection.host if redirection.host not in ("", "?") else address[0]
                address = node_address(host, redirection.port)
                is_asking = not isinstance(redirection, MovedError)
                if not is_asking:
                    self._owners[slot] = address
                    self.addresses |= {address}
            except RedisConnectionError:
                # Where it is gone, others may know already who has its slots now. A charge that it still counted and
                # passed on is counted twice then, which lets nobody have more than the limit.
                self._must_ask = True
                if (owner := self._owner(slot)) == address:
                    raise
                address, is_asking = owner, False
            except (RedisTimeout, ClusterDownError, InvalidResponse, OSError):
                # Its slots may be another's soon. A second wait would be one too many.
                self._must_ask = True
                raise
        raise ClusterError("sent from node to node without end")

    def node_of(self, key: str) -> Address | None:
        """The node that has the key as far as is known; None where none is known to have it. Asks nobody."""
        return self._owners.get(key_slot(key.encode()))

    def masters(self) -> Iterator[Redis]:
        """A client of each node that has slots."""
        if self._must_ask:
            self._ask_for_slots()
        for address in sorted(set(self._owners.values())):
            yield self._node(address)

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()

    def _owner(self, slot: int) -> Address:
        if self._must_ask:
            self._ask_for_slots()
        try:
            return self._owners[slot]
        except KeyError:
            self._must_ask = True
            raise ClusterDownError(f"no node has slot {slot}") from None

    def _ask_for_slots(self) -> None:
        known = list(self._nodes)
        random.shuffle(known)
        # What is configured is asked even so: its names may stand for other nodes by now.
        asked = list(dict.fromkeys([*self._seeds, *known]))[: max(MAX_ASKED_FOR_SLOTS, len(self._seeds))]
        owners = self._slots.get(asked)
        self._owners = dict(owners)
        self.addresses = frozenset(owners.values())
        self._must_ask = False
        for address in set(self._nodes) - self.addresses - set(self._seeds):
            # Another thread may have done it just now.
            if (gone := self._nodes.pop(address, None)) is not None:
                gone.connection_pool.disconnect(inuse_connections=False)

    def _slots_by(self, address: Address) -> dict[int, Address]:
        """Which node has which slot, according to this one."""
        ranges: Any = self._send(address, False, ["CLUSTER SLOTS"])
        owners: dict[int, Address] = {}
        for first, last, (host, port, *_), *_ in ranges:
            # A node that doesn't know an address leaves it out: it is the one by which it was asked.
            owner = node_address(host.decode() if host and host != b"?" else address[0], port)
            if not 0 <= first <= last < REDIS_CLUSTER_HASH_SLOTS:
                raise InvalidResponse("not a range of slots")
            owners.update(dict.fromkeys(range(first, last + 1), owner))
        if not owners:
            raise ClusterDownError("this node knows of no slots")
        return owners

    def _send(self, address: Address, is_asking: bool, command: Sequence[str | int | bytes]) -> Any:
        node: Any = self._node(address)
        try:
            if not is_asking:
                return node.execute_command(*command)
            # It holds for the next command on the same connection.
            pipeline = node.pipeline(transaction=False)
            return pipeline.execute_command("ASKING").execute_command(*command).execute()[-1]
        except ValueError as error:
            # redis-py reads a redirection that way; as any failure of the node's, it must not be one of the gateway's.
            raise InvalidResponse("not an address that can be read") from error

    def _node(self, address: Address) -> Redis:
        node = self._nodes.get(address)
        # Two threads may make one at once; the one that is kept is used by both.
        return node if node is not None else self._nodes.setdefault(address, self._connect(*address))
