"""Minutes of mixed load on a real gateway, with failing services, reloads, and a Redis that stops and starts again. At
the end, the gateway must not have grown.

Run it with `.venv/bin/python -m tests.benchmarks.soak --minutes 5`. Exit code 1 means: memory or descriptors grew, a
request hung, or the gateway failed by a fault of its own.

Memory and descriptors are those of gunicorn's master and its workers, read while there are no requests. Workers that
were just started have not grown yet. So the second half has no reloads: its end is compared with its beginning.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from gateway.redis.client import MAX_CONNECTIONS
from tests.benchmarks.soak_clients import SoakClient
from tests.support.faulty_service import FaultyService
from tests.support.gateway import GatewayProcess
from tests.support.load import HANGS, NO_ANSWER, Load, asking
from tests.support.redis import RedisServer
from tests.support.redis_topologies import connections_of

WORKERS = 2
CLIENTS = 16
PACE_SECONDS = 0.05
RELOAD_SECONDS = 60.0
# Moments, as shares of the whole time.
WARM_UP, RELOADS_UNTIL, REDIS_GOES, REDIS_COMES = 0.15, 0.4, 0.6, 0.7
FAULTS = ("refuse", "reset_before_head", "reset_after_head", "reset_in_body", "hang", "dribble_head", "garbage")

GOOD = ("200", "429 quota_exceeded")
# The expected outcomes by kind of request. A persistent connection may end when its worker is replaced.
RIGHT = {
    "kept": (*GOOD, NO_ANSWER),
    "download": GOOD,
    "upload": GOOD,
    "limited": GOOD,
    "bad token": ("401 missing_token", "401 invalid_token"),
    "unknown path": ("404 no_route", "400 bad_path"),
}

ALLOWED_SHARE, ALLOWED_KIB, ALLOWED_DESCRIPTORS = 0.1, 8 * 1024, 8
ALLOWED_TO_REDIS = WORKERS * MAX_CONNECTIONS


@dataclass(frozen=True)
class Size:
    """The resources of the gateway's processes, the master first: resident KiB and open descriptors. Connections to
    Redis are counted separately: their number grows up to a bound, as all that were ever needed at once stay open."""

    resident_kib: tuple[int, ...]
    descriptors: tuple[int, ...]
    to_redis: int

    @classmethod
    def of(cls, gateway: GatewayProcess, redis_port: int) -> Size:
        pids = [gateway.process.pid, *sorted(workers_of(gateway))]
        to_redis = [connections_of(pid).count(redis_port) for pid in pids]
        others = [open_descriptors(pid) - count for pid, count in zip(pids, to_redis, strict=True)]
        return cls(tuple(map(resident_kib, pids)), tuple(others), sum(to_redis))

    def __str__(self) -> str:
        memory = " + ".join(f"{kib / 1024:.1f}" for kib in self.resident_kib)
        files = " + ".join(map(str, self.descriptors))
        total = f"RSS {sum(self.resident_kib) / 1024:.1f} MiB ({memory})"
        return f"{total}, {sum(self.descriptors)} descriptors ({files}) and {self.to_redis} to Redis"

    def growth_since(self, before: Size) -> list[str]:
        """Names each resource that has grown by more than allowed."""
        found = []
        first, last = sum(before.resident_kib), sum(self.resident_kib)
        if last > first * (1 + ALLOWED_SHARE) + ALLOWED_KIB:
            found.append(f"RSS grew from {first} to {last} KiB")
        first, last = sum(before.descriptors), sum(self.descriptors)
        if last > first + ALLOWED_DESCRIPTORS:
            found.append(f"descriptors grew from {first} to {last}")
        if self.to_redis > ALLOWED_TO_REDIS:
            found.append(f"{self.to_redis} connections to Redis")
        return found


def workers_of(gateway: GatewayProcess) -> set[int]:
    pid = gateway.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def open_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Soak:
    def __init__(self, gateway: GatewayProcess, redis: RedisServer, restless: FaultyService, minutes: float) -> None:
        self._gateway = gateway
        self._redis = redis
        self._restless = restless
        self._seconds = minutes * 60
        self._started = time.monotonic()
        self._number = 0
        self.outcomes: Counter[str] = Counter()
        self.slowest_seconds = 0.0
        self.sizes: dict[str, Size] = {}

    def run(self) -> None:
        prefixes = [f"/api/{fault}/{kind}" for fault in FAULTS for kind in ("lone", "paired")] + ["/api/restless"]
        with self._load(prefixes) as load:
            self._go_on(load, WARM_UP)
        self.sizes["at the start"] = self._idle_size()
        with self._load(prefixes) as load:
            while (at := self._share() + RELOAD_SECONDS / self._seconds) < RELOADS_UNTIL:
                self._reload()
                self._go_on(load, at)
            self._reload()
            self._go_on(load, self._share() + WARM_UP)
        self.sizes["after the last reload"] = self._idle_size()
        with self._load(prefixes) as load:
            self._go_on(load, max(REDIS_GOES, self._share()))
            self._redis.kill()
            self._go_on(load, max(REDIS_COMES, self._share()))
            self._redis.start()
            self._go_on(load, 1)
        self.sizes["at the end"] = self._idle_size()

    def _share(self) -> float:
        """The share of the whole time that is over."""
        return (time.monotonic() - self._started) / self._seconds

    @contextmanager
    def _load(self, prefixes: list[str]) -> Iterator[Load]:
        # Each part of the soak has new callers.
        clients = [SoakClient(self._gateway.port, prefixes, self._number + one) for one in range(CLIENTS)]
        self._number += CLIENTS
        with asking(clients, PACE_SECONDS) as load:
            yield load
        for client in clients:
            client.close()
        self.outcomes += load.outcomes
        self.slowest_seconds = max(self.slowest_seconds, load.slowest_seconds)

    def _go_on(self, load: Load, until: float) -> None:
        """Waits until this share of the time is over. Meanwhile a target of one service stops and starts."""
        is_up = True
        while self._share() < until:
            time.sleep(1)
            is_up = not is_up
            self._restless.become("good" if is_up else "refuse")
            done, answered = self._share(), self.outcomes.total() + load.answered
            size = sum(map(resident_kib, workers_of(self._gateway))) / 1024
            text = f"{done:4.0%} of {self._seconds / 60:g} minutes, {answered} requests, workers {size:.0f} MiB"
            click.echo(f"\r{text}", nl=False, err=True)

    def _reload(self) -> None:
        old = workers_of(self._gateway)
        self._gateway.process.send_signal(signal.SIGHUP)
        self._wait_for_workers(old)

    def _wait_for_workers(self, old: set[int]) -> None:
        """Waits until the gateway has all its workers, and none of the old ones."""
        deadline = time.monotonic() + 60
        while len(now := workers_of(self._gateway)) != WORKERS or now & old:
            assert time.monotonic() < deadline, (old, now)
            time.sleep(0.1)

    def _idle_size(self) -> Size:
        """The size once it is stable: after all connections of clients have ended."""
        self._wait_for_workers(set())
        before, deadline = None, time.monotonic() + 30
        while (size := Size.of(self._gateway, self._redis.port)).descriptors != before and time.monotonic() < deadline:
            before = size.descriptors
            time.sleep(2)
        return size


def settings(faulty: dict[str, FaultyService], good: list[FaultyService], restless: FaultyService) -> dict[str, Any]:
    def service(prefix: str, *targets: FaultyService, **more: Any) -> dict[str, Any]:
        return {
            "prefix": prefix,
            "targets": [one.url for one in targets],
            "head_timeout_seconds": 1,
            # With a larger pool, the number of open connections would depend on how many were needed at once.
            "keepalive_connections": 1,
            **more,
        }

    services = {
        "good": service("/api/good", *good, head_timeout_seconds=10),
        "limited": service("/api/limited", *good, limits=["5/second", "100/minute burst 20"]),
        "restless": service("/api/restless", restless, *good),
    }
    for fault, target in faulty.items():
        services[f"{fault}_lone"] = service(f"/api/{fault}/lone", target)
        services[f"{fault}_paired"] = service(f"/api/{fault}/paired", target, good[0])
    # The token cache is so small that it is full after the warm-up.
    return {"default_services": False, "services": services, "jwt": {"cache_size": 200}}


def report(soak: Soak, gateway: GatewayProcess) -> list[str]:
    """Prints the figures. Returns a line for everything that must not have happened."""
    print(f"{soak.outcomes.total()} requests, the slowest took {soak.slowest_seconds:.2f} s")
    by_code: Counter[str] = Counter()
    for outcome, count in soak.outcomes.items():
        by_code[outcome.rpartition(": ")[2]] += count
    for code, count in by_code.most_common():
        print(f"{count:8}  {code}")
    for when, size in soak.sizes.items():
        print(f"{when:22} {size}")
    *earlier, last = soak.sizes.values()
    wrong = [text for size in earlier for text in last.growth_since(size)]
    wrong += [f"{code}: {count}" for code, count in by_code.items() if code == HANGS or code.startswith("500")]
    wrong += [f"{outcome}: {count}" for outcome, count in soak.outcomes.items() if is_wrong(outcome)]
    if "Traceback" in gateway.output():
        wrong.append("the gateway's log has tracebacks")
    return wrong


def is_wrong(outcome: str) -> bool:
    """Whether this kind of request must not have this outcome."""
    kind, _, code = outcome.partition(": ")
    return kind in RIGHT and code not in RIGHT[kind]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=5)
    minutes = parser.parse_args().minutes
    with ExitStack() as stack:
        faulty = {fault: stack.enter_context(FaultyService(fault)) for fault in FAULTS}
        good = [stack.enter_context(FaultyService()) for _ in range(2)]
        restless = stack.enter_context(FaultyService())
        redis = stack.enter_context(RedisServer(tcp=True))
        gateway = GatewayProcess(settings(faulty, good, restless), workers=WORKERS, environ={"REDIS_URL": redis.url})
        stack.callback(gateway.stop)
        soak = Soak(gateway, redis, restless, minutes)
        soak.run()
        wrong = report(soak, gateway)
    for text in wrong:
        print(f"WRONG: {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
