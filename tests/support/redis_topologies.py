"""Steps that the tests of all Redis set-ups share."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.redis import redis_failures, wait_for_redis, wait_until
from tests.support.tokens import bearer

ESTABLISHED = "01"
# Time limit of a request: far longer than it takes on a busy machine, far shorter than a hang.
ANSWER_SECONDS = 10
subjects = count(1)


def fresh_subject() -> str:
    return f"caller-{next(subjects)}@example.com"


def get(gateway: GatewayProcess, target: str, *fields: tuple[str, str]) -> int:
    """Sends a request and returns the status. Fails the test if no response arrives in time."""
    with Connection(gateway.port, ANSWER_SECONDS) as connection:
        connection.send(request_bytes("GET", target, fields))
        return connection.reply().status


def statuses_of(gateways: Sequence[GatewayProcess], token: str) -> list[int]:
    return [get(gateway, "/api/devices", ("Authorization", f"Bearer {token}")) for gateway in gateways]


def answers_to(
    gateways: Sequence[GatewayProcess], subject: str, tries: int, target: str = "/api/devices"
) -> Counter[int]:
    """Sends concurrent requests of one principal to all gateways, and counts the statuses."""
    token = bearer(subject)
    with ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(lambda gateway: get(gateway, "/api/devices", token), islice(cycle(gateways), tries)))


def start_before_redis(
    start_gateway: Callable[..., GatewayProcess],
    settings: Mapping[str, Any],
    limit: int,
    url: str,
    start_redis: Callable[[], object],
) -> tuple[list[GatewayProcess], Counter[int]]:
    """Starts two gateways, one with two workers and one with one, then their Redis servers, and waits until the
    gateways use these. Returns the gateways, and the statuses of a caller's requests to the first one without Redis."""
    gateways = [start_gateway(settings, workers=workers, environ={"REDIS_URL": url}) for workers in (2, 1)]
    without_redis = answers_to(gateways[:1], fresh_subject(), limit + 10)
    start_redis()
    for gateway in gateways:
        wait_for_redis(gateway)
    return gateways, without_redis


def check_start_before_redis(gateway: GatewayProcess, without_redis: Counter[int], limit: int) -> None:
    """Checks that two workers have limited a caller before there was a Redis. Each worker counts its share of the
    limit; the kernel chooses which worker gets a connection."""
    assert without_redis.keys() <= {200, 429}
    assert limit // 2 <= without_redis[200] <= limit
    assert "Redis fails" in gateway.output()


def check_counting(
    gateways: Sequence[GatewayProcess],
    limit: int,
    before_each: Callable[[], None] = lambda: None,
    subject: str | None = None,
) -> None:
    """Checks that a limit is exact over all workers of the gateways. On a very busy machine Redis may respond later
    than a gateway waits, so that counts are not exact; other tests cover that. In this case the check is repeated."""
    for _ in range(10):
        before_each()
        before = failures(gateways)
        answers = answers_to(gateways, subject or fresh_subject(), limit + 10)
        subject = None
        if failures(gateways) == before:
            assert answers == {200: limit, 429: 10}
            return
        for gateway in gateways:
            wait_for_redis(gateway)
    raise AssertionError("Redis fails all the time")


def failures(gateways: Sequence[GatewayProcess]) -> int:
    return sum(map(redis_failures, gateways))


@dataclass
class Load:
    """Clients that send requests in a loop, each with its own principal and connection."""

    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    @property
    def answered(self) -> int:
        return self.statuses.total()

    def wait_for_more(self, number: int = 40) -> None:
        before = self.answered
        wait_until(lambda: self.answered >= before + number or bool(self.problems), f"{number} more answers")


@contextmanager
def steady_load(gateways: Sequence[GatewayProcess], clients: int = 4) -> Iterator[Load]:
    load, ended = Load(), threading.Event()

    def ask(gateway: GatewayProcess) -> None:
        data = request_bytes("GET", "/api/devices", [bearer(fresh_subject())])
        try:
            with Connection(gateway.port, ANSWER_SECONDS) as connection:
                # The pause limits the rate to one or two hundred requests a second.
                while not ended.wait(0.025):
                    began = time.monotonic()
                    connection.send(data)
                    load.statuses[connection.reply().status] += 1
                    load.slowest_seconds = max(load.slowest_seconds, time.monotonic() - began)
        except Exception as error:
            load.problems.append(repr(error))

    threads = [threading.Thread(target=ask, args=(one,), daemon=True) for one in islice(cycle(gateways), clients)]
    for thread in threads:
        thread.start()
    try:
        load.wait_for_more()
        yield load
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert load.problems == []


def connections_of(pid: int) -> list[int]:
    """The remote ports of the process's TCP connections."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        name = str(descriptor.readlink()) if descriptor.is_symlink() else ""
        if name.startswith("socket:["):
            inodes.add(name.removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return [int(row[2].partition(":")[2], 16) for row in rows if row[3] == ESTABLISHED and row[9] in inodes]
