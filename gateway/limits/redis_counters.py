"""Counts in Redis, for all workers and gateways together: one script, one round trip, whatever the number of limits."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, sha1
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import InvalidResponse, NoScriptError

from gateway.limits.window import Ask, Marks, Outcome

PREFIX = "gateway:quota:"
SCRIPT = Path(__file__).with_name("take.lua").read_text()
# By which Redis knows the script once it has seen it.
SCRIPT_SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

PROBE = Ask("probe", 2**31, 1)


class RedisCounters:
    """The sliding window counter in Redis. Methods raise redis.RedisError when Redis fails."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def take(self, asks: Sequence[Ask], consume: bool = True, marks: Marks | None = None) -> list[Outcome]:
        """The outcome of each limit; all are charged, or none where one refuses. The marks are looked up, too."""
        numbers: list[int] = [int(consume)]
        for ask in asks:
            numbers += (ask.amount, ask.window_seconds * 1000, ask.cost)
        marked = marks.keys if marks is not None else ()
        end = 4 * len(asks)
        reply = self._run([*(redis_key(ask.key) for ask in asks), *marked], numbers, end + len(marked))
        if marks is not None:
            marks.values = [None if number < 0 else number for number in reply[end:]]
        return [
            Outcome(reply[at] == 1, reply[at + 1], reply[at + 2] / 1000, reply[at + 3] / 1000)
            for at in range(0, end, 4)
        ]

    def _run(self, keys: list[str], numbers: list[int], length: int) -> list[int]:
        """The script's reply: four numbers for each limit, one for each mark."""
        reply: Any
        try:
            reply = self._client.evalsha(SCRIPT_SHA, len(keys), *keys, *numbers)
        except NoScriptError:
            # Redis is new, or forgot its scripts; EVAL keeps it for the next time.
            reply = self._client.eval(SCRIPT, len(keys), *keys, *numbers)
        # Whatever else listens at Redis' address must look like a Redis that fails, not like a mistake in here.
        if not isinstance(reply, list) or len(reply) != length or any(type(one) is not int for one in reply):
            raise InvalidResponse("the answer is not the script's")
        return reply

    def forget(self, key: str) -> None:
        self._client.delete(redis_key(key))

    def forget_all(self) -> int:
        """Removes every counter; returns how many there were."""
        count = 0
        for key in self._client.scan_iter(match=PREFIX + "*", count=1000):
            count += int(self._client.delete(key))
        return count

    def probe(self) -> None:
        """Counts one under a key of its own: unlike PING, it fails where Redis answers but can't be written."""
        self.take([PROBE])


def redis_key(key: str) -> str:
    # Hashed: a subject of any length and with any bytes in it stays one short key that nobody can forge.
    return PREFIX + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
