"""Measures what logging, metrics and tracing cost: python -m tests.benchmarks.overhead

The CPU time of a request in three gateways: with the defaults (access log, metrics, figures of the status page,
forwarded trace headers), with all of this off, and with every request exported as spans in addition. They are measured
in turn; the ratios are the result.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

from tests.benchmarks.load import counted_rounds, measure, service
from tests.support.client import request_bytes
from tests.support.collector import Collector
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer

OFF: dict[str, Any] = {"tracing": {"propagate": False}}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        services = four_services(stack.enter_context(service()))
        collector = stack.enter_context(closing(Collector()))
        exported = {"tracing": {"otlp_endpoint": collector.url}}
        gateways = {
            "everything off": GatewayProcess(services | OFF, application="tests.benchmarks.silent:app"),
            "everything on": GatewayProcess(services),
            "on, and spans of every request": GatewayProcess(services | exported),
        }
        for gateway in gateways.values():
            stack.callback(gateway.stop)
        cpu: dict[str, list[float]] = {name: [] for name in gateways}
        request = request_bytes("GET", "/api/devices", [bearer()])
        for number in counted_rounds(options.rounds + 1):
            for name, gateway in gateways.items():
                figures = measure(gateway.port, request, options.seconds, gateway.process.pid)
                if number:
                    # The first round is the warm-up.
                    cpu[name].append(figures.cpu_microseconds)
    print(f"{'':32}{'CPU of a request':>18}{'to everything off':>20}")
    for name, values in cpu.items():
        ratio = statistics.median(one / off for one, off in zip(values, cpu["everything off"], strict=True))
        print(f"{name:32}{statistics.median(values):>15.0f} µs{ratio:>20.3f}")


if __name__ == "__main__":
    main()
