"""Counts in Redis, for all workers and gateways together: one script, one round trip, whatever the number of limits."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, sha1
from pathlib import Path
from typing import Any

from redis.exceptions import InvalidResponse, NoScriptError

from gateway.limits.asks import Ask, Marks, Outcome
from gateway.redis.client import SharedRedis

PREFIX = "gateway:quota:"
SCRIPT = Path(__file__).with_name("take.lua").read_text()
# By which Redis knows the script once it has seen it.
SCRIPT_SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
ALGORITHMS = {"sliding": 0, "fixed": 1, "bucket": 2}

PROBE = Ask("probe", 2**31, 1)


class RedisCounters:
    """The algorithms of quotas in Redis. Methods raise one of `redis.client.FAILURES` when Redis fails."""

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis

    def take(
        self, asks: Sequence[Ask], consume: bool = True, marks: Marks | None = None, partition_by: str = ""
    ) -> list[Outcome]:
        """The outcome of each limit; all are charged, or none where one refuses. The marks are looked up, too.

        In a cluster all of it is kept in the partition of `partition_by`."""
        tag = self._redis.partitions.tag_for(partition_by)
        keys = [tag + redis_key(ask.key) for ask in asks]
        numbers: list[int] = [int(consume)]
        for ask in asks:
            numbers += (ALGORITHMS[ask.algorithm], ask.amount, ask.window_seconds * 1000, ask.cost, ask.burst)
        if marks is not None:
            keys += [tag + key for key in marks.keys]
        end = 4 * len(asks)
        reply = self._run(keys, numbers, end + len(keys) - len(asks))
        if marks is not None:
            marks.values = [None if number < 0 else number for number in reply[end:]]
        return [
            Outcome(reply[at] == 1, reply[at + 1], reply[at + 2] / 1000, reply[at + 3] / 1000, ask.capacity)
            for at, ask in zip(range(0, end, 4), asks, strict=True)
        ]

    def _run(self, keys: list[str], numbers: list[int], length: int) -> list[int]:
        """The script's reply: four numbers for each limit, one for each mark."""
        client = self._redis.client
        reply: Any
        try:
            reply = client.evalsha(SCRIPT_SHA, len(keys), *keys, *numbers)
        except NoScriptError:
            # Redis is new, or forgot its scripts; EVAL keeps it for the next time.
            reply = client.eval(SCRIPT, len(keys), *keys, *numbers)
        # Whatever else listens at Redis' address must look like a Redis that fails, not like a mistake in here.
        if not isinstance(reply, list) or len(reply) != length or any(type(one) is not int for one in reply):
            raise InvalidResponse("the answer is not the script's")
        return reply

    def forget(self, key: str, partition_by: str = "") -> bool:
        """Gives back what was counted under a key; whether there was anything."""
        return bool(self._redis.client.delete(self._redis.partitions.tag_for(partition_by) + redis_key(key)))

    def forget_all(self) -> int:
        """Removes every counter; returns how many there were."""
        count = 0
        for key in self._redis.client.scan_iter(match=f"*{PREFIX}*", count=1000):
            count += int(self._redis.client.delete(key))
        return count

    def probe(self) -> None:
        """Counts one under a key of its own: unlike PING, it fails where Redis answers but can't be written."""
        self.take([PROBE])


def redis_key(key: str) -> str:
    # Hashed: a subject of any length and with any bytes in it stays one short key that nobody can forge.
    return PREFIX + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
