"""Counts in Redis, for all workers and gateways together: one script, one round trip, whatever the number of limits."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, sha1
from pathlib import Path
from typing import Any

from redis.exceptions import InvalidResponse, NoScriptError, TryAgainError

from gateway.rate_limiting.models import LimitCheck, LimitResult, RevocationLookup
from gateway.redis.client import SharedRedis
from gateway.redis.first_response import Address

PREFIX = "gateway:quota:"
SCRIPT = Path(__file__).with_name("consume_limits.lua").read_text()
# By which Redis knows the script once it has seen it.
SCRIPT_SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
ALGORITHMS = {"sliding": 0, "fixed": 1, "bucket": 2}

PROBE = LimitCheck("probe", 2**31, 1)


class RedisCounters:
    """The algorithms of quotas in Redis. Methods raise one of `redis.client.FAILURES` when Redis fails."""

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis

    def consume(
        self,
        checks: Sequence[LimitCheck],
        lookup: RevocationLookup | None = None,
        partition_key: str = "",
        *,
        dry_run: bool = False,
    ) -> list[LimitResult]:
        """The result of each limit; all are charged, or none where one refuses. The marks are looked up, too.

        In a cluster all of it is kept in the partition of `partition_key`."""
        tag = self._redis.partitions.tag_for(partition_key)
        counters = [tag + redis_key(check.key) for check in checks]
        marked = [tag + key for key in lookup.keys] if lookup is not None else []
        if not counters and not marked:
            return []
        end = 4 * len(checks)
        try:
            reply = self._run(counters + marked, checks, dry_run=dry_run)
        except TryAgainError:
            # The partition is on its way from one node to another, and not all of its keys are on one side.
            reply = self._run_one_by_one(counters, marked, checks, dry_run=dry_run)
        if lookup is not None:
            lookup.values = [None if number < 0 else number for number in reply[end:]]
        return [
            LimitResult(reply[at] == 1, reply[at + 1], reply[at + 2] / 1000, reply[at + 3] / 1000, check.capacity)
            for at, check in zip(range(0, end, 4), checks, strict=True)
        ]

    def _run(self, keys: Sequence[str], checks: Sequence[LimitCheck], *, dry_run: bool) -> list[int]:
        """The script's reply: four numbers for each limit, one for each of the further keys, the marks."""
        words: list[str | int] = [len(keys), *keys, int(not dry_run)]
        for check in checks:
            words += (ALGORITHMS[check.algorithm], check.amount, check.window_seconds * 1000, check.cost, check.burst)
        length = 3 * len(checks) + len(keys)
        reply: Any
        try:
            reply = self._redis.run(keys[0], "EVALSHA", SCRIPT_SHA, *words)
        except NoScriptError:
            # Redis is new, or forgot its scripts; EVAL keeps it for the next time.
            reply = self._redis.run(keys[0], "EVAL", SCRIPT, *words)
        # Whatever else listens at Redis' address must look like a Redis that fails, not like a mistake in here.
        if not isinstance(reply, list) or len(reply) != length or set(map(type, reply)) - {int}:
            self._redis.drop_connections()
            raise InvalidResponse("the answer is not the script's")
        return reply

    def _run_one_by_one(
        self, counters: Sequence[str], marked: Sequence[str], checks: Sequence[LimitCheck], *, dry_run: bool
    ) -> list[int]:
        """The same reply, a call for each key: a cluster knows for one key where it is. No limit lets more pass than
        ever; but of several, one that another request used up in between has the others charged for nothing."""

        def each(*, dry_run: bool) -> list[list[int]]:
            return [self._run([key], [check], dry_run=dry_run) for key, check in zip(counters, checks, strict=True)]

        if not dry_run and len(checks) > 1:
            replies = each(dry_run=True)
            if all(reply[0] == 1 for reply in replies):
                replies = each(dry_run=False)
        else:
            replies = each(dry_run=dry_run)
        replies += [self._run([key], [], dry_run=True) for key in marked]
        return [number for reply in replies for number in reply]

    def forget(self, key: str, partition_key: str = "") -> bool:
        """Gives back what was counted under a key; whether there was anything."""
        name = self._redis.partitions.tag_for(partition_key) + redis_key(key)
        return bool(self._redis.run(name, "DEL", name))

    def forget_all(self) -> int:
        """Removes every counter; returns how many there were."""
        pattern = f"{self._redis.partitions.any_tag}{PREFIX}*"
        return sum(int(self._redis.run(key, "DEL", key)) for key in self._redis.scan(pattern))

    def probe(self, partition_key: str = "") -> None:
        """Counts one under a key of its own: unlike PING, it fails where Redis answers but can't be written."""
        self.consume([PROBE], partition_key=partition_key)

    @property
    def is_cluster(self) -> bool:
        return self._redis.cluster is not None

    def node_of(self, partition_key: str) -> Address | None:
        """The node of a cluster that has the partition; None where no node is known to have it."""
        cluster = self._redis.cluster
        return None if cluster is None else cluster.node_of(self._redis.partitions.tag_for(partition_key))

    def has_node(self, address: Address | None) -> bool:
        """Whether the node is one of those that have the cluster's slots."""
        return self._redis.cluster is not None and address in self._redis.cluster.addresses


def redis_key(key: str) -> str:
    # Hashed: a subject of any length and with any bytes in it stays one short key that nobody can forge.
    return PREFIX + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
