"""Counters in Redis, shared by all workers and gateways. One call of one script checks all limits of a request."""

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
        """Returns the result of each check. Charges all limits, or none if one refuses or with `dry_run`. Sets the
        values of `lookup`. In a cluster all keys are in the partition of `partition_key`."""
        tag = self._redis.hash_tags.tag_for(partition_key)
        counters = [tag + redis_key(check.key) for check in checks]
        revocations = [tag + key for key in lookup.keys] if lookup is not None else []
        if not counters and not revocations:
            return []
        end = 4 * len(checks)
        try:
            reply = self._run(counters + revocations, checks, dry_run=dry_run)
        except TryAgainError:
            # The slot is being moved to another node, and its keys are spread over both nodes.
            reply = self._run_key_by_key(counters, revocations, checks, dry_run=dry_run)
        if lookup is not None:
            lookup.values = [None if number < 0 else number for number in reply[end:]]
        return [
            LimitResult(reply[at] == 1, reply[at + 1], reply[at + 2] / 1000, reply[at + 3] / 1000, check.capacity)
            for at, check in zip(range(0, end, 4), checks, strict=True)
        ]

    def _run(self, keys: Sequence[str], checks: Sequence[LimitCheck], *, dry_run: bool) -> list[int]:
        """Runs the script and returns its reply: four numbers for each check, then one for each revocation key."""
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
            # Redis has restarted or flushed its scripts; EVAL loads the script again.
            reply = self._redis.run(keys[0], "EVAL", SCRIPT, *arguments)
        # Another server than Redis may listen at the address. This counts as a failure of Redis, not as an error of the
        # gateway.
        if not isinstance(reply, list) or len(reply) != length or set(map(type, reply)) - {int}:
            self._redis.drop_connections()
            raise InvalidResponse("the reply is not the script's")
        return reply

    def _run_key_by_key(
        self, counters: Sequence[str], revocations: Sequence[str], checks: Sequence[LimitCheck], *, dry_run: bool
    ) -> list[int]:
        """The same reply as `_run`, by one call per key: a cluster can always run a script on a single key. No limit is
        exceeded. But if another request uses up one of several limits between the calls, the other limits are charged
        although the request is refused."""

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
        """Charges a counter that no request uses. Unlike PING, this fails if Redis replies but refuses to write."""
        self.consume([PROBE], partition_key=partition_key)

    def node_of(self, partition_key: str) -> Address | None:
        """The cluster node that has the partition; None if no node is known to have it, or if Redis is no cluster."""
        cluster = self._redis.cluster
        return None if cluster is None else cluster.node_of(self._redis.hash_tags.tag_for(partition_key))

    def has_node(self, address: Address | None) -> bool:
        """Whether `address` is a cluster node that has slots; True if Redis is no cluster."""
        return self._redis.cluster is None or address in self._redis.cluster.addresses


def redis_key(key: str) -> str:
    # The key is hashed: a subject of any length and content gives one short key, and no subject can forge the key of
    # another.
    return PREFIX + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
