"""Start, reload and end of the gateway as a set of processes; nothing may be left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import pytest

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

StartGateway = Callable[..., GatewayProcess]


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        GatewayProcess.pause()
    return True


def own_folders(gateway: GatewayProcess) -> list[Path]:
    """Redis' and the metrics'."""
    return sorted(Path(tempfile.gettempdir()).glob(f"gateway-*-{gateway.process.pid}-*"))


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_workers_and_redis(start_gateway: StartGateway, sign: signal.Signals) -> None:
    gateway = start_gateway({})
    children = children_of(gateway.process.pid)
    assert len(children) == 3
    folders = own_folders(gateway)
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]
    assert gateway.stop(sign) == 0
    assert not any(is_running(pid) for pid in children)
    assert not own_folders(gateway)
    assert "Traceback" not in gateway.output()


def test_ctrl_c_on_a_terminal_reaches_workers_too_and_ends_them_in_order(start_gateway: StartGateway) -> None:
    gateway = start_gateway({})
    for _ in range(3):
        for pid in gateway.worker_pids():
            os.kill(pid, signal.SIGINT)
    assert gateway.stop(signal.SIGINT) == 0
    assert "Traceback" not in gateway.output()
    assert "SystemExit" not in gateway.output()


def test_nothing_outlives_a_killed_master_and_the_next_start_clears_away_what_it_left(
    start_gateway: StartGateway,
) -> None:
    killed = start_gateway({})
    children = children_of(killed.process.pid)
    assert len(children) == 3
    # Asked before: as soon as it is dead, any gateway that starts clears them away, another test's too.
    assert len(own_folders(killed)) == 2
    killed.stop(signal.SIGKILL)
    assert wait_for(lambda: not any(is_running(pid) for pid in children))
    start_gateway({}, workers=1)
    assert not own_folders(killed)


def test_a_killed_private_redis_is_replaced_and_takes_part_in_the_end(start_gateway: StartGateway) -> None:
    gateway = start_gateway({}, workers=1)
    for count in (1, 2):
        (victim,) = set(children_of(gateway.process.pid)) - set(gateway.worker_pids())
        os.kill(victim, signal.SIGKILL)
        gateway.wait_until(
            lambda count=count: gateway.output().count("another one takes its place") == count,  # type: ignore[misc]
            "replace it",
        )
        gateway.wait_until(lambda: gateway.get("/readyz").json()["redis"] == "ok", "find it")
    children = children_of(gateway.process.pid)
    assert len(children) == 2
    assert gateway.stop() == 0
    assert not any(is_running(pid) for pid in children)
    assert not own_folders(gateway)


def test_a_killed_worker_is_replaced_and_the_others_serve_on(start_gateway: StartGateway) -> None:
    gateway = start_gateway({})
    victim = gateway.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    gateway.wait_until(lambda: gateway.output().count("Booting worker") == 3, "replace the worker")
    assert gateway.get("/readyz").json() == {"status": "ready", "redis": "ok", "keys": "ok"}


def test_without_any_setting_it_runs_with_its_own_secret_and_redis(start_gateway: StartGateway) -> None:
    gateway = start_gateway({}, environ={"GATEWAY_JWT__SECRET": None})
    assert "jwt.secret is not set" in gateway.output()
    assert gateway.get("/readyz").json() == {"status": "ready", "redis": "ok", "keys": "ok"}
    secret = Path(__file__).parents[2] / "instance" / "jwt-secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_text() not in gateway.output()


def test_mistakes_end_the_start_with_all_of_them_told(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[jwt]\nsecret = "short"\n[services.rules]\ntargets = ["ftp://x"]\nspeed = 1\n')
    with pytest.raises(AssertionError) as failure:
        GatewayProcess({}, environ={"GATEWAY_CONFIG": str(config), "GATEWAY_JWT__SECRET": None})
    told = str(failure.value)
    assert "jwt.secret: must have at least 32 bytes" in told
    assert "services.rules.targets[0]: scheme must be http or https, got 'ftp'" in told
    assert "services.rules.speed: there is no such setting" in told
    assert "Traceback" not in told


def test_a_worker_that_cant_be_made_now_is_tried_again_and_the_others_serve_on(
    start_gateway: StartGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    authorities, away = tmp_path / "ca.pem", tmp_path / "away.pem"
    shutil.copy(certifi.where(), authorities)
    settings = four_services(upstream.url)
    settings["services"]["devices"]["ca_file"] = str(authorities)
    settings["services"]["devices"]["targets"].append("https://127.0.0.1:1")
    gateway = start_gateway(settings | {"server": {"worker": "gthread"}})
    # Each worker reads the file.
    gateway.wait_until(lambda: "gateway_workers 2.0" in gateway.get("/metrics").body.decode(), "have both")
    authorities.rename(away)
    os.kill(gateway.worker_pids()[0], signal.SIGKILL)
    gateway.wait_until(lambda: gateway.output().count("another one will try") >= 2, "try")
    assert "services.devices.ca_file: can't be used" in gateway.output()
    assert gateway.get("/api/rules", bearer()).status == 200
    away.rename(authorities)
    started = gateway.output().count("Booting worker")
    gateway.wait_until(lambda: gateway.output().count("Booting worker") > started, "try again")
    tried = gateway.output().count("another one will try")
    gateway.wait_until(lambda: len(children_of(gateway.process.pid)) == 3, "have its workers and Redis")
    assert gateway.output().count("another one will try") == tried
    assert "Traceback" not in gateway.output()


NO_PROCESSES = """
import os, pathlib
exec(pathlib.Path("gunicorn.conf.py").read_text())
fork, file = os.fork, pathlib.Path({file!r})
def refuse():
    if file.exists():
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = refuse
"""


def test_where_there_is_no_process_to_be_had_the_others_serve_on(start_gateway: StartGateway, tmp_path: Path) -> None:
    file, configuration = tmp_path / "no-processes", tmp_path / "conf.py"
    configuration.write_text(NO_PROCESSES.format(file=str(file)))
    gateway = start_gateway({}, arguments=["--config", str(configuration)])
    file.touch()
    os.kill(gateway.worker_pids()[0], signal.SIGKILL)
    gateway.wait_until(lambda: "a worker can't be started now: Resource temporarily" in gateway.output(), "try")
    assert gateway.get("/healthz").status == 200
    file.unlink()
    gateway.wait_until(lambda: gateway.output().count("Booting worker") == 3, "start another")


def test_usr1_before_there_is_an_application_ends_nothing(start_gateway: StartGateway, tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGUSR1)\nfrom wsgi import app\n"
    )
    gateway = start_gateway({}, workers=1, arguments=["--pythonpath", str(tmp_path)], application="early:app")
    assert gateway.get("/healthz").status == 200
    assert "Traceback" not in gateway.output()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reload") / "gateway.toml"


@pytest.fixture(scope="module")
def services(module_upstream: ScriptedUpstream) -> str:
    return f'[services.devices]\ntargets = ["{module_upstream.url}"]\nlimits = ["100/hour"]\n'


@pytest.fixture(scope="module")
def reloading(start_gateway: StartGateway, services: str, config: Path) -> GatewayProcess:
    """A gateway with this configuration file, which tests write anew."""
    config.write_text(services)
    return start_gateway({}, environ={"GATEWAY_CONFIG": str(config)})


class TestReload:
    """HUP."""

    def reload(self, gateway: GatewayProcess) -> None:
        """Until all workers are new ones."""
        old = gateway.worker_pids()
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_until(lambda: not any(is_running(pid) for pid in old), "replace its workers")

    def test_a_good_file_takes_effect_and_redis_keeps_its_counts(
        self, reloading: GatewayProcess, upstream: ScriptedUpstream, config: Path, services: str
    ) -> None:
        assert reloading.get("/api/devices", bearer()).value("X-RateLimit-Remaining") == "99"
        assert reloading.get("/api/extra", bearer()).status == 404
        config.write_text(services + f'[services.extra]\nprefix = "/api/extra"\ntargets = ["{upstream.url}"]\n')
        self.reload(reloading)
        assert reloading.get("/api/extra", bearer()).status == 200
        assert reloading.get("/api/devices", bearer()).value("X-RateLimit-Remaining") == "98"
        assert len(own_folders(reloading)) == 2

    @pytest.mark.usefixtures("upstream")
    def test_a_broken_file_is_refused_and_the_old_settings_serve_on(
        self, reloading: GatewayProcess, config: Path
    ) -> None:
        config.write_text('[services.devices]\ntargets = ["gopher://x"]\n[jwt]\nspeed = 1\n')
        self.reload(reloading)
        assert "not reloaded: services.devices.targets[0]: scheme must be http or https" in reloading.output()
        assert "not reloaded: jwt.speed: there is no such setting" in reloading.output()
        assert reloading.get("/api/devices", bearer()).status == 200

    def test_a_key_file_that_has_gone_is_refused_too(
        self, reloading: GatewayProcess, upstream: ScriptedUpstream, config: Path
    ) -> None:
        config.write_text(
            f'[services.devices]\ntargets = ["{upstream.url}", "https://x"]\nca_file = "/nowhere/ca.pem"\n'
        )
        self.reload(reloading)
        assert "not reloaded: services.devices.ca_file: can't be used" in reloading.output()
        assert reloading.get("/api/devices", bearer()).status == 200


def test_a_request_in_flight_is_finished_before_the_end(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway(four_services(upstream.url))
    ended = False

    def slow(_: Any, connection: Any) -> bool:
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_until(lambda: "Handling signal: term" in gateway.output(), "take the signal")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        return True

    upstream.script = slow
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer()]))
        reply = connection.reply()
    ended = gateway.process.wait(30) == 0
    assert (reply.status, reply.body, ended) == (200, b"done", True)


def test_the_thread_worker_serves_the_same(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    gateway = start_gateway(four_services(upstream.url) | {"server": {"worker": "gthread"}})
    assert re.search("Using worker: .*ThreadWorker", gateway.output())
    with Connection(gateway.port) as connection:
        for number in range(3):
            fields = [bearer(), ("X-Tag", "a"), ("X-Tag", str(number))]
            connection.send(request_bytes("POST", "/api/devices?x=1", fields, b"body"))
            assert connection.reply("POST").status == 200
    assert [request.body for request in upstream.requests] == [b"body"] * 3
    assert upstream.requests[2].values("x-tag") == ["a", "2"]
    assert gateway.get("/api/devices").status == 401
