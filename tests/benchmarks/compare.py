"""Compares the gateway with the one that most teams write first: python -m tests.benchmarks.compare

Both have two workers and share one Redis and one service. Both do the same work: verify an HS256 token, count the
request, forward it. They are measured in turn; the ratios are the result. Then the gateway's own access log shows where
the time of a request goes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.benchmarks.load import Measured, counted_rounds, measure, service
from tests.support.client import request_bytes
from tests.support.gateway import ROOT, GatewayProcess, clean_environment, four_services
from tests.support.redis import RedisServer, free_port
from tests.support.tokens import SECRET, bearer

STAGES = ("gateway_seconds", "redis_seconds", "upstream_seconds", "seconds")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        url, redis = stack.enter_context(service()), stack.enter_context(RedisServer(tcp=True))
        ours = GatewayProcess(four_services(url), environ={"REDIS_URL": redis.url})
        stack.callback(ours.stop)
        naive_port, naive = stack.enter_context(running_naive(url, redis.url))
        request = request_bytes("GET", "/api/devices", [bearer()])
        asked: dict[str, Callable[[], Measured]] = {
            "the gateway": lambda: measure(ours.port, request, options.seconds, ours.process.pid),
            "naive Flask + requests": lambda: measure(naive_port, request, options.seconds, naive),
        }
        found: dict[str, list[Measured]] = {name: [] for name in asked}
        for number in counted_rounds(options.rounds + 1):
            for name, ask in asked.items():
                figures = ask()
                if number:
                    # The first round is the warm-up.
                    found[name].append(figures)
        print_figures(found)
        ours.wait_until(lambda: len(ours.access_log()) > 1, "log its requests")
        print_stages(ours.access_log())


@contextmanager
def running_naive(url: str, redis_url: str) -> Iterator[tuple[int, int]]:
    """Runs the naive gateway. Yields its port and its first process."""
    port = free_port()
    environ = {"NAIVE_SERVICE": url, "NAIVE_SECRET": SECRET, "NAIVE_REDIS": redis_url, "PYTHONPATH": str(ROOT)}
    command = ["-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-w", "2", "-k", "gthread"]
    # It runs in its own folder. Beside the gateway's gunicorn.conf.py it would be served with the gateway's settings.
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, *command, "--threads", "16", "--log-level", "warning", "tests.benchmarks.naive:app"],
            cwd=folder,
            env=clean_environment() | environ,
            stdout=output,
            stderr=output,
        )
        try:
            wait_until_it_listens(port, process)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()


def wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            measure(port, request_bytes("GET", "/api/devices", [bearer()]), 0.1, process.pid)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the naive gateway did not start")


def print_figures(found: dict[str, list[Measured]]) -> None:
    print(f"{'medians':28}{'requests/s':>12}{'CPU µs':>9}{'p50 ms':>9}")
    for name, rounds in found.items():
        figures = [
            statistics.median(getattr(one, figure) for one in rounds)
            for figure in ("per_second", "cpu_microseconds", "median_milliseconds")
        ]
        print(f"{name:28}{figures[0]:>12.0f}{figures[1]:>9.0f}{figures[2]:>9.2f}")
    ours, naive = found.values()
    ratios = [one.per_second / other.per_second for one, other in zip(ours, naive, strict=True)]
    print(f"requests/s of the gateway to the naive one: {statistics.median(ratios):.2f}")


def print_stages(lines: Sequence[dict[str, Any]]) -> None:
    """Prints the time that a request spends in each stage. It includes waiting for a CPU, as the gateway is under
    load."""
    print("\nof a request, by the access log (ms; under load, so with waiting):")
    for stage in STAGES:
        values = [line[stage] * 1000 for line in lines if line["status"] == 200]
        print(f"{stage:28}p50 {statistics.median(values):8.2f}   p99 {statistics.quantiles(values, n=100)[98]:8.2f}")


if __name__ == "__main__":
    main()
