"""Counts in Redis, for all workers and gateways together: one script, one round trip, whatever the number of limits."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, sha1
from pathlib import Path
from typing import Any

from redis.exceptions import InvalidResponse, NoScriptError, TryAgainError

from gateway.rate_limiting.models import LimitCheck, LimitResult, RevocationLookup
from gateway.redis.addresses import Address
from gateway.redis.client import SharedRedis

PREFIX = "gateway:quota:"
SCRIPT = Path(__file__).with_name("consume_limits.lua").read_text()
# The name of the script in Redis, once Redis has loaded it.
SCRIPT_SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
ALGORITHMS = {"sliding": 0, "fixed": 1, "bucket": 2}

PROBE = LimitCheck("probe", 2**31, 1)


class RedisCounters:
    """The rate limiting algorithms in Redis. Methods raise one of `redis.client.FAILURES` if Redis fails."""

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
        """The result of each check. Charges all limits, or none if one refuses or with `dry_run`. Sets the values of
        `lookup`. In a cluster all keys are in the partition of `partition_key`."""
        tag = self._redis.hash_tags.tag_for(partition_key)
        counters = [tag + redis_key(check.key) for check in checks]
        revocations = [tag + key for key in lookup.keys] if lookup is not None else []
        if not counters and not revocations:
            return []
        end = 4 * len(checks)
        try:
            reply = self._run(counters + revocations, checks, dry_run=dry_run)
        except TryAgainError:
            # The slot is being moved to another node, and its keys are on both.
            reply = self._run_key_by_key(counters, revocations, checks, dry_run=dry_run)
        if lookup is not None:
            lookup.values = [None if number < 0 else number for number in reply[end:]]
        return [
            LimitResult(reply[at] == 1, reply[at + 1], reply[at + 2] / 1000, reply[at + 3] / 1000, check.capacity)
            for at, check in zip(range(0, end, 4), checks, strict=True)
        ]

    def _run(self, keys: Sequence[str], checks: Sequence[LimitCheck], *, dry_run: bool) -> list[int]:
        """The script's reply: four numbers for each check, one for each of the other keys."""
        arguments: list[str | int] = [len(keys), *keys, int(not dry_run)]
        for check in checks:
            arguments += (
                ALGORITHMS[check.algorithm],
                check.amount,
                check.window_seconds * 1000,
                check.cost,
                check.burst,
            )
        length = 3 * len(checks) + len(keys)
        reply: Any
        try:
            reply = self._redis.run(keys[0], "EVALSHA", SCRIPT_SHA, *arguments)
        except NoScriptError:
            # Redis has restarted or flushed its scripts; EVAL loads it again.
            reply = self._redis.run(keys[0], "EVAL", SCRIPT, *arguments)
        # If anything but Redis listens at its address, that is a failure of Redis, not an error of the gateway.
        if not isinstance(reply, list) or len(reply) != length or set(map(type, reply)) - {int}:
            self._redis.drop_connections()
            raise InvalidResponse("the reply is not the script's")
        return reply

    def _run_key_by_key(
        self, counters: Sequence[str], revocations: Sequence[str], checks: Sequence[LimitCheck], *, dry_run: bool
    ) -> list[int]:
        """The same reply by one call per key, which a cluster always finds. No limit is exceeded; but if another
        request uses up one of several limits between the calls, the others are charged although the request is
        refused."""

        def run_each(*, dry_run: bool) -> list[list[int]]:
            return [self._run([key], [check], dry_run=dry_run) for key, check in zip(counters, checks, strict=True)]

        replies = run_each(dry_run=dry_run or len(checks) > 1)
        if not dry_run and len(checks) > 1 and all(reply[0] == 1 for reply in replies):
            replies = run_each(dry_run=False)
        replies += [self._run([key], [], dry_run=True) for key in revocations]
        return [number for reply in replies for number in reply]

    def clear(self, key: str, partition_key: str = "") -> bool:
        """Removes a counter; returns whether it existed."""
        name = self._redis.hash_tags.tag_for(partition_key) + redis_key(key)
        return bool(self._redis.run(name, "DEL", name))

    def clear_all(self) -> int:
        """Removes every counter; returns how many there were."""
        pattern = f"{self._redis.hash_tags.any_tag}{PREFIX}*"
        return sum(int(self._redis.run(key, "DEL", key)) for key in self._redis.scan(pattern))

    def probe(self, partition_key: str = "") -> None:
        """Counts under a key of its own: unlike PING, this fails if Redis replies but refuses to write."""
        self.consume([PROBE], partition_key=partition_key)

    def node_of(self, partition_key: str) -> Address | None:
        """The cluster node that has the partition. None if no node is known to have it, and without a cluster."""
        cluster = self._redis.cluster
        return None if cluster is None else cluster.node_of(self._redis.hash_tags.tag_for(partition_key))

    def has_node(self, address: Address | None) -> bool:
        """Whether `address` is a node with slots; True without a cluster."""
        return self._redis.cluster is None or address in self._redis.cluster.addresses


def redis_key(key: str) -> str:
    # Hashed: a subject of any length and content gives one short key, and no subject can forge the key of another.
    return PREFIX + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
