"""Metrics stay correct while workers are killed, stopped and reloaded."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import GatewayProcess, four_services
from tests.support.metrics import metric_value
from tests.support.upstream import ScriptedUpstream

StartGateway = Callable[..., GatewayProcess]

WORKERS = 2
RESTARTS = 6


class Scraper:
    """Scrapes continuously, and collects errors and counters that have decreased in `problems`."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.problems: list[str] = []
        self.scrapes = 0
        self._gateway = gateway
        self._last: dict[str, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._scrape_on)
        self._thread.start()

    def end(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _scrape_on(self) -> None:
        while not self._is_over.is_set():
            try:
                reply = self._gateway.get("/metrics")
            except OSError:
                # The worker that accepted this connection was killed.
                continue
            self.scrapes += 1
            if reply.status != 200:
                self.problems.append(f"status {reply.status}")
                continue
            for family in text_string_to_metric_families(reply.body.decode()):
                if family.type in ("counter", "histogram"):
                    for one in family.samples:
                        self._compare(f"{one.name} {sorted(one.labels.items())}", one.value)

    def _compare(self, name: str, value: float) -> None:
        # Sums of seconds may be added up in another order, so rounding may decrease them slightly.
        if value < self._last.get(name, 0.0) - 1e-9:
            self.problems.append(f"{name}: {value} after {self._last[name]}")
        self._last[name] = value


def refused(gateway: GatewayProcess) -> bool:
    """Sends a request without a token, which must be refused. False if there was no response, because the worker was
    killed."""
    try:
        return gateway.get("/api/devices").status == 401
    except OSError:
        return False


def test_counts_survive_many_restarts_in_a_bounded_number_of_files(
    start_gateway: StartGateway, module_upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway(four_services(module_upstream.url), workers=WORKERS)
    # Waits for both starts: a worker that is killed before it has counted its own start is never counted.
    wait_for(gateway, "gateway_worker_starts_total", WORKERS)
    scraper = Scraper(gateway)
    answered, started = 0, WORKERS
    try:
        for restart in range(RESTARTS):
            answered += sum(refused(gateway) for _ in range(10))
            # A graceful end and a crash in turn.
            os.kill(gateway.worker_pids()[0], signal.SIGTERM if restart % 2 else signal.SIGKILL)
            started += 1
            wait_for(gateway, "gateway_worker_starts_total", started)
        gateway.process.send_signal(signal.SIGHUP)
        started += WORKERS
        wait_for(gateway, "gateway_worker_starts_total", started)
        answered += sum(refused(gateway) for _ in range(10))
        wait_for(gateway, "gateway_workers", WORKERS)
    finally:
        scraper.end()
    assert scraper.problems == []
    assert scraper.scrapes > RESTARTS
    assert metric_value(gateway, "gateway_token_refusals_total", reason="missing") == answered
    # The files are: counters and histograms of at most twice as many workers, as during a reload; three kinds of gauges
    # of each living worker; all five kinds of the master.
    (folder,) = Path(tempfile.gettempdir()).glob(f"gateway-worker-metrics-{gateway.process.pid}-*")
    assert len(list(folder.iterdir())) <= 2 * WORKERS * 2 + WORKERS * 3 + 5
    assert metric_value(gateway, "gateway_requests_in_flight_limit", service="devices") == WORKERS * 400
    assert "Traceback" not in gateway.output()


def wait_for(gateway: GatewayProcess, name: str, value: float) -> None:
    def is_there() -> bool:
        try:
            return metric_value(gateway, name) == value
        except OSError:
            # The worker that accepted this connection was killed.
            return False

    gateway.wait_until(is_there, f"count {value} in {name}")
