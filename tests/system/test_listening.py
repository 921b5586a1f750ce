"""Listening sockets: several addresses, inherited sockets, and reloads that change the addresses."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import exchange, request_bytes
from tests.support.commands import flask
from tests.support.gateway import GatewayProcess, four_services
from tests.support.process_table import children_of, is_running, wait_for
from tests.support.redis import free_port

StartGateway = Callable[..., GatewayProcess]
NOWHERE = four_services("http://127.0.0.1:9")
HEALTH = request_bytes("GET", "/healthz")
BURST = 20


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that another process has made and keeps open."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * BURST) as made:
        yield made


def accepts_a_burst(port: int) -> bool:
    """Whether many connections can be established before the server accepts the first one."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(BURST)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        waiting = list(clients)
        while waiting and (connected := select.select([], waiting, [], 2)[1]):
            waiting = [client for client in waiting if client not in connected]
        return not waiting


def test_a_socket_of_systemd_still_listens_after_sigterm(start_gateway: StartGateway, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    for _ in range(2):
        gateway = start_gateway(NOWHERE, listener=listener)
        assert gateway.port == port
        assert exchange(port, HEALTH).status == 200
        assert gateway.stop() == 0
        assert accepts_a_burst(port)


def test_usr2_passes_on_a_listening_socket(start_gateway: StartGateway) -> None:
    # With bin/gunicorn the folder of gunicorn's modules is not in Python's path. PYTHONSAFEPATH has the same effect
    # here.
    old = start_gateway(NOWHERE, workers=1, environ={"PYTHONSAFEPATH": "1"})
    old.process.send_signal(signal.SIGUSR2)
    old.wait_until(lambda: old.output().count("Booting worker") == 2, "start another gateway")
    masters = [int(pid) for pid in re.findall(r"Listening at: .*\((\d+)\)", old.output())]
    new = next(pid for pid in masters if pid != old.process.pid)
    try:
        assert old.stop() == 0
        stopped = [new, *children_of(new)]
        assert exchange(old.port, HEALTH).status == 200
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        assert accepts_a_burst(old.port)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    finally:
        os.kill(new, signal.SIGTERM)
    assert wait_for(lambda: not is_running(new))


def write(config: Path, *addresses: str, more: str = "") -> None:
    config.write_text(f"[server]\nbind = {list(addresses)}\n{more}")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("listening") / "gateway.toml"


@pytest.fixture(scope="module")
def ports() -> list[int]:
    return [free_port() for _ in range(3)]


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, config: Path, ports: list[int]) -> GatewayProcess:
    write(config, *(f"127.0.0.1:{port}" for port in ports[:2]))
    return start_gateway({}, environ={"GATEWAY_CONFIG": str(config), "GATEWAY_SERVER__BIND": None})


class TestReload:
    """Reloads with other addresses. The tests share one gateway, so their order matters."""

    @staticmethod
    def reload(gateway: GatewayProcess) -> None:
        old = gateway.worker_pids()
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_until(lambda: not any(is_running(pid) for pid in old), "replace its workers")

    @staticmethod
    def answers(port: int) -> bool:
        try:
            return exchange(port, HEALTH).status == 200
        except ConnectionRefusedError:
            return False

    @pytest.mark.usefixtures("gateway")
    def test_several_addresses(self, ports: list[int]) -> None:
        assert [self.answers(port) for port in ports] == [True, True, False]
        for port in ports[:2]:
            # The command finds the private Redis by either address. It prints nothing, as no token is revoked.
            assert not flask("revoked", settings={"server": {"bind": [f"127.0.0.1:{port}", f"127.0.0.1:{ports[2]}"]}})

    def test_an_address_in_use_is_refused_and_the_old_ones_stay(
        self, gateway: GatewayProcess, config: Path, ports: list[int], listener: socket.socket
    ) -> None:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        write(config, f"127.0.0.1:{ports[2]}", taken)
        self.reload(gateway)
        assert f"not reloaded: server.bind: can't listen on {taken}: Address already in use" in gateway.output()
        assert [self.answers(port) for port in ports] == [True, True, False]

    @pytest.mark.parametrize("address", ["unix:/nowhere/socket", "unix:{folder}/file", "unix:{folder}/used", "fd://9"])
    def test_an_address_of_another_machine_is_refused(
        self, gateway: GatewayProcess, config: Path, ports: list[int], tmp_path: Path, address: str
    ) -> None:
        (tmp_path / "file").touch()
        with socket.socket(socket.AF_UNIX) as used:
            used.bind(str(tmp_path / "used"))
            used.listen()
            address = address.format(folder=tmp_path)
            write(config, address)
            self.reload(gateway)
        assert f"not reloaded: server.bind: can't listen on {address}: " in gateway.output()
        assert [self.answers(port) for port in ports] == [True, True, False]

    def test_another_worker_class_is_refused(self, gateway: GatewayProcess, config: Path, ports: list[int]) -> None:
        write(config, f"127.0.0.1:{ports[2]}", more='worker = "gthread"')
        self.reload(gateway)
        assert "not reloaded: server.worker: must be gevent" in gateway.output()
        assert [self.answers(port) for port in ports] == [True, True, False]

    def test_addresses_are_kept_removed_and_added(
        self, gateway: GatewayProcess, config: Path, ports: list[int], tmp_path: Path
    ) -> None:
        path = tmp_path / "socket"
        write(config, f"127.0.0.1:{ports[2]}", f"127.0.0.1:{ports[1]}", f"unix:{path}")
        self.reload(gateway)
        assert [self.answers(port) for port in ports] == [False, True, True]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(HEALTH)
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        write(config, f"127.0.0.1:{ports[0]}")
        self.reload(gateway)
        assert [self.answers(port) for port in ports] == [True, False, False]
        assert not path.exists()
        assert not flask("revoked", settings={"server": {"bind": f"127.0.0.1:{ports[0]}"}})
        with pytest.raises(AssertionError, match="no gateway with a private Redis listens"):
            flask("revoked", settings={"server": {"bind": f"127.0.0.1:{ports[1]}"}})
