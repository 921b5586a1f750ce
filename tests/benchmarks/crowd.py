"""Measures what a crowd of waiting connections costs other clients: python -m tests.benchmarks.crowd

One client sends one request after the other, first alone, then while 1 000 connections are idle and 500 send one byte
of a header per second. Prints the median and the 99th percentile of both, and their ratio.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

IDLE = 1000
DRIBBLING = 500
ASKED = 3000
ROUNDS = 3


def main() -> None:
    upstream = ScriptedUpstream()
    gateway = GatewayProcess(four_services(upstream.url) | {"server": {"keepalive_seconds": 120}})
    try:
        times(gateway)
        print(f"{'':8}{'alone p50':>12}{'p99':>9}{'crowded p50':>15}{'p99':>9}{'ratio p50':>12}{'p99':>7}   [ms]")
        for number in range(1, ROUNDS + 1):
            alone = times(gateway)
            with crowd(gateway):
                crowded = times(gateway)
            ratios = [with_them / without for with_them, without in zip(crowded, alone, strict=True)]
            print(
                f"round {number} {alone[0]:>12.2f}{alone[1]:>9.2f}{crowded[0]:>15.2f}{crowded[1]:>9.2f}"
                f"{ratios[0]:>12.2f}{ratios[1]:>7.2f}"
            )
    finally:
        gateway.stop()
        upstream.close()


def times(gateway: GatewayProcess) -> tuple[float, float]:
    """The median and the 99th percentile of one client's requests, in milliseconds."""
    data, taken = request_bytes("GET", "/api/devices", [bearer()]), []
    with Connection(gateway.port) as connection:
        for _ in range(ASKED):
            started = time.perf_counter()
            connection.send(data)
            assert connection.reply().status == 200
            taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


@contextmanager
def crowd(gateway: GatewayProcess) -> Iterator[None]:
    """Opens the idle and the slow connections until the `with` block ends."""
    ended = threading.Event()
    with ExitStack() as stack:
        for _ in range(IDLE):
            stack.enter_context(Connection(gateway.port))
        dribbling = [stack.enter_context(Connection(gateway.port)) for _ in range(DRIBBLING)]
        for connection in dribbling:
            connection.send(b"GET /api/devices HTTP/1.1\r\nX-A: ")

        def dribble() -> None:
            while not ended.wait(1):
                for connection in dribbling:
                    connection.send(b"a")

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


if __name__ == "__main__":
    main()
