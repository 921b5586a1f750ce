"""Measures whether services or callers make a gateway slower or larger: python -m tests.benchmarks.growth

First the CPU time per request of two gateways under load at the same time, one with 4 services and one with many. Then
the memory of a gateway's workers while more and more callers arrive, each with its own token. The ratios are the
result.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

from tests.benchmarks.load import ask, counted_rounds, measure, service
from tests.support.client import request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer

FEW = 4


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--callers", type=int, default=100_000)
    parser.add_argument("--step", type=float, default=10, help="seconds between two looks at the memory")
    options = parser.parse_args(arguments)
    with service() as url:
        compare_services(url, options.services, options.rounds, options.seconds)
        add_callers(url, options.callers, options.step)


def compare_services(url: str, many: int, rounds: int, seconds: float) -> None:
    with ExitStack() as stack:
        gateways = [GatewayProcess(services(number, url)) for number in (FEW, many)]
        for gateway in gateways:
            stack.callback(gateway.stop)
        threads = stack.enter_context(ThreadPoolExecutor(len(gateways)))
        request = request_bytes("GET", f"/api/service-{FEW - 1}/1", [bearer()])
        ratios, figures = list[float](), [list[float](), list[float]()]
        for number in counted_rounds(rounds + 1):
            # Both are measured at the same time, so that other work of the machine slows down both.
            asked = [threads.submit(measure, one.port, request, seconds, one.process.pid) for one in gateways]
            few, more = (one.result().cpu_microseconds for one in asked)
            if number:
                # The first round is the warm-up.
                ratios.append(more / few)
                figures[0].append(few)
                figures[1].append(more)
        for number, found in zip((FEW, many), figures, strict=True):
            print(f"{number:>8} services{statistics.median(found):>12.0f} µs of CPU a request")
        print(f"many to {FEW}: {statistics.median(ratios):.3f} (median of {rounds} rounds)\n")


def services(number: int, url: str) -> dict[str, Any]:
    each = {f"service_{one}": {"prefix": f"/api/service-{one}", "targets": [url]} for one in range(number)}
    return {"default_services": False, "docs": {"enabled": False}, "services": each}


def add_callers(url: str, most: int, step_seconds: float) -> None:
    gateway = GatewayProcess(four_services(url))
    try:
        requests, seen = numbered_requests(), 0
        print(f"{'callers':>10}{'MiB of the workers':>22}")
        print_memory(gateway, seen)
        while seen < most:
            seen += len(ask(gateway.port, requests, step_seconds))
            print_memory(gateway, seen)
    finally:
        gateway.stop()


def numbered_requests() -> Iterator[bytes]:
    for number in count(1):
        yield request_bytes("GET", "/api/devices", [bearer(f"caller-{number}@example.com")])


def print_memory(gateway: GatewayProcess, seen: int) -> None:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in gateway.worker_pids())
    print(f"{seen:>10}{pages * os.sysconf('SC_PAGE_SIZE') / (1 << 20):>22.1f}", flush=True)


if __name__ == "__main__":
    main()
