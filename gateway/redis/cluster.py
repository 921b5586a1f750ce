"""A Redis Cluster client whose commands take no longer than the timeout if a node fails; and the hash tags of keys.

redis-py's own client sleeps while a slot is moved or a master is replaced. After a failure, each waiting request asks
one node after the other for the slots. Its pool raises an error instead of waiting for a connection. This client sends
a command to the node of its slot, follows redirections, and fails at once if that node fails, unless the other nodes
say that the slot has moved.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from zlib import crc32

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

from gateway.redis.addresses import Address, node_address
from gateway.redis.first_response import FirstResponse

# Each redirection is one round trip. If there are more in a row, the nodes redirect to each other.
MAX_REDIRECTIONS = 5
# A few nodes are enough, as every node knows all slots.
MAX_NODES_ASKED_FOR_SLOTS = 6
# How many hash tags a cluster's keys are spread over.
CLUSTER_PARTITIONS = 64


class HashTags:
    """The hash tags with which keys begin. A hash tag is the part of a key in braces, which alone determines the slot.
    In a cluster one call can only use keys of one slot, so all keys that a request needs are in one partition: they
    have the same hash tag. Without a cluster there is one partition and no hash tag.

    `tags` has the beginning of the keys of each partition: prefix and hash tag. `any_tag` is a pattern that matches all
    of them."""

    def __init__(self, count: int = 1, prefix: str = "") -> None:
        """`prefix` must not contain braces: the first pair of braces in a key is the tag."""
        self.tags = [f"{prefix}{{{number}}}" for number in range(count)] if count > 1 else [prefix]
        self.any_tag = f"{prefix}{{*}}" if count > 1 else prefix

    def tag_for(self, partition_key: str) -> str:
        """The beginning of the keys in the partition of this text. Texts are spread evenly over the partitions."""
        tags = self.tags
        return tags[crc32(partition_key.encode("utf-8", "surrogatepass")) % len(tags)] if len(tags) > 1 else tags[0]


class ClusterClient:
    """Sends each command to the node that has its key. `connect` makes the client of one node. Nothing connects before
    the first command.

    Methods raise RedisError or OSError."""

    def __init__(self, seeds: Sequence[Address], timeout_seconds: float, connect: Callable[[str, int], Redis]) -> None:
        self._seeds = seeds
        self._connect = connect
        self._nodes: dict[Address, Redis] = {}
        self._owners: dict[int, Address] = {}
        # The nodes that have slots.
        self.addresses: frozenset[Address] = frozenset()
        self._must_refresh = True
        self._slots = FirstResponse(self._slots_by, timeout_seconds)

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
                # The node is gone, and another node may have its slots already. If the lost node had executed and
                # replicated the command, the command is executed twice: a request may be charged twice, but no caller
                # can exceed a limit.
                self._must_refresh = True
                if (owner := self._owner(slot)) == address:
                    raise
                address, is_asking = owner, False
            except (RedisTimeout, ClusterDownError, InvalidResponse, OSError):
                # Another node may have the slots soon, but the request must not wait for a second timeout.
                self._must_refresh = True
                raise
        raise ClusterError("the nodes redirect to each other")

    def node_of(self, key: str) -> Address | None:
        """The node that has the key, as last known; None if none is known. Sends nothing."""
        return self._owners.get(key_slot(key.encode()))

    def masters(self) -> Iterator[Redis]:
        """Yields a client of each node that has slots."""
        if self._must_refresh:
            self._refresh_slots()
        for address in sorted(set(self._owners.values())):
            yield self._node(address)

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()

    def _owner(self, slot: int) -> Address:
        if self._must_refresh:
            self._refresh_slots()
        try:
            return self._owners[slot]
        except KeyError:
            self._must_refresh = True
            raise ClusterDownError(f"no node has slot {slot}") from None

    def _refresh_slots(self) -> None:
        known = list(self._nodes)
        random.shuffle(known)
        # The seeds are asked even if other nodes are known: the names of seeds may resolve to other nodes by now.
        asked = list(dict.fromkeys([*self._seeds, *known]))[: max(MAX_NODES_ASKED_FOR_SLOTS, len(self._seeds))]
        owners = self._slots.get(asked)
        self._owners = dict(owners)
        self.addresses = frozenset(owners.values())
        self._must_refresh = False
        for address in set(self._nodes) - self.addresses - set(self._seeds):
            # Another thread may have removed the node's client already.
            if (gone := self._nodes.pop(address, None)) is not None:
                gone.connection_pool.disconnect(inuse_connections=False)

    def _slots_by(self, address: Address) -> dict[int, Address]:
        """The node of each slot, according to this node."""
        ranges: Any = self._send(address, False, ["CLUSTER SLOTS"])
        owners: dict[int, Address] = {}
        for first, last, (host, port, *_), *_ in ranges:
            # An empty host stands for the address of the node that replies.
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
            # ASKING applies to the next command on the same connection.
            pipeline = node.pipeline(transaction=False)
            return pipeline.execute_command("ASKING").execute_command(*command).execute()[-1]
        except ValueError as error:
            # redis-py raises ValueError for a redirection that it can't parse.
            raise InvalidResponse("the node's reply can't be parsed") from error

    def _node(self, address: Address) -> Redis:
        node = self._nodes.get(address)
        # If two threads create a client at once, both use the one that was stored first.
        return node if node is not None else self._nodes.setdefault(address, self._connect(*address))
