"""Recoveries of targets in Redis: a worker that has seen a target work again publishes this for all other workers."""

from __future__ import annotations

import socket
from hashlib import sha256
from ipaddress import ip_address

from gateway.proxy.target import Target
from gateway.redis.client import SharedRedis

# A recovery need not be stored for long, as the other workers read several times a second.
EXPIRY_SECONDS = 60


class SharedRecoveries:
    """One key per service and target, with the time of its last recovery by the clock of Redis, as the clocks of
    several machines differ. Methods raise one of `redis.client.FAILURES` if Redis fails."""

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis
        self._prefix = redis.hash_tags.tags[0] + "gateway:recovery:"

    def publish(self, service: str, target: Target, seconds_ago: float) -> None:
        """Publishes that this worker saw the target work so many seconds ago."""
        key = self._key(service, target)
        time = self._now_milliseconds(key) - int(1000 * seconds_ago)
        self._redis.run(key, "SET", key, time, "EX", EXPIRY_SECONDS)

    def seconds_since(self, service: str, target: Target) -> float | None:
        """Seconds since a worker saw the target recover; None if there was no recent recovery."""
        key = self._key(service, target)
        text = self._redis.run(key, "GET", key)
        if text is None:
            return None
        try:
            time = int(text)
        except ValueError:
            # Another version of the gateway may have written another format.
            return None
        return max(0, self._now_milliseconds(key) - time) / 1000

    def _now_milliseconds(self, key: str) -> int:
        seconds, microseconds = self._redis.run(key, "TIME")
        return 1000 * int(seconds) + int(microseconds) // 1000

    def _key(self, service: str, target: Target) -> str:
        # On another machine, a loopback address is another target. So the key contains the name of the machine.
        machine = socket.gethostname() if is_loopback(target.host) else ""
        return f"{self._prefix}{service}:{sha256(f'{target.url} {machine}'.encode()).hexdigest()[:16]}"


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
