"""Requests during reloads, worker deaths and a graceful shutdown."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import Received, ScriptedUpstream

StartGateway = Callable[..., GatewayProcess]
CLIENTS = 6


class Load:
    """Clients that send one request after the other, each on its own connection, and count the results."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.outcomes: Counter[str] = Counter()
        self._gateway = gateway
        self._data = request_bytes("GET", "/api/devices", [bearer(), ("Connection", "close")])
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(CLIENTS)]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for thread in self._threads:
                thread.join()

    def _ask_on(self) -> None:
        while not self._stopped.is_set():
            try:
                with Connection(self._gateway.port) as connection:
                    connection.send(self._data)
                    outcome = str(connection.reply().status)
            except OSError as error:
                outcome = type(error).__name__
            except Exception as error:
                outcome = f"no answer ({type(error).__name__})"
            self.outcomes[outcome] += 1

    def wait_for(self, count: int) -> None:
        """Waits for this number of further responses."""
        wanted = self.outcomes["200"] + count
        self._gateway.wait_until(lambda: self.outcomes["200"] >= wanted, "answer")


def booted(gateway: GatewayProcess) -> int:
    return gateway.output().count("Booting worker")


def test_a_reload_under_load_loses_no_request(
    start_gateway: StartGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("")
    gateway = start_gateway(four_services(upstream.url), environ={"GATEWAY_CONFIG": str(config)})
    load = Load(gateway)
    with load.running():
        for number in (1, 2):
            load.wait_for(50)
            os.kill(gateway.process.pid, signal.SIGHUP)
            gateway.wait_until(lambda n=number: booted(gateway) >= 2 + 2 * n, "start new workers")  # type: ignore[misc] # bound now
        # A broken file is refused, without an effect on requests.
        config.write_text("[services.devices]\nspeed = 1\n")
        os.kill(gateway.process.pid, signal.SIGHUP)
        gateway.wait_until(lambda: "not reloaded: services.devices.speed" in gateway.output(), "refuse it")
        load.wait_for(100)
    assert load.outcomes.keys() == {"200"}, load.outcomes


def test_a_killed_worker_loses_only_its_requests_in_flight(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway(four_services(upstream.url))
    load = Load(gateway)
    with load.running():
        load.wait_for(50)
        os.kill(gateway.worker_pids()[0], signal.SIGKILL)
        gateway.wait_until(lambda: booted(gateway) >= 3, "replace it")
        load.wait_for(100)
    lost = sum(count for outcome, count in load.outcomes.items() if outcome != "200")
    # Each client may lose one request: the one on its connection to the killed worker.
    assert lost <= CLIENTS, load.outcomes


def test_a_graceful_shutdown_finishes_requests_in_flight(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    arrived, released = threading.Event(), threading.Event()

    def answer_late(_: Received, connection: socket.socket) -> bool:
        arrived.set()
        released.wait(20)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
        return True

    upstream.script = answer_late
    gateway = start_gateway(four_services(upstream.url))
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer()]))
        assert arrived.wait(20)
        gateway.begin_to_stop()
        gateway.wait_until(lambda: "Handling signal: term" in gateway.output(), "hear it")
        released.set()
        reply = connection.reply()
    assert (reply.status, reply.body) == (200, b"late")
    assert gateway.stop() == 0


def test_a_graceful_shutdown_resets_no_connection(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    gateway = start_gateway(four_services(upstream.url))
    load = Load(gateway)
    with load.running():
        load.wait_for(50)
        assert gateway.stop() == 0
    # Clients on established connections got a response. Later connections are refused at once.
    assert load.outcomes.keys() <= {"200", "ConnectionRefusedError"}, load.outcomes


def test_recycled_workers_lose_no_request(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    gateway = start_gateway(
        four_services(upstream.url), arguments=["--max-requests", "60", "--max-requests-jitter", "20"]
    )
    load = Load(gateway)
    with load.running():
        gateway.wait_until(lambda: booted(gateway) >= 5, "recycle its workers")
        load.wait_for(50)
    assert load.outcomes.keys() == {"200"}, load.outcomes
