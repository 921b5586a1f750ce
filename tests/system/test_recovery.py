"""The gateway recovers from the loss of a worker or its private Redis, and from processes and threads that can't be
started."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.process_table import children_of, is_running, listeners_of, own_folders
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

StartGateway = Callable[..., GatewayProcess]

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
NO_THREADS = """
import pathlib, threading
exec(pathlib.Path("gunicorn.conf.py").read_text())
begin, file = threading._start_new_thread, pathlib.Path({file!r})
def refuse(*arguments, **more):
    if file.exists():
        raise RuntimeError("can't start new thread")
    return begin(*arguments, **more)
threading._start_new_thread = refuse
"""


def test_a_killed_private_redis_is_restarted_and_ends_with_the_gateway(start_gateway: StartGateway) -> None:
    gateway = start_gateway({}, workers=1)
    for count in (1, 2):
        (victim,) = set(children_of(gateway.process.pid)) - set(gateway.worker_pids())
        os.kill(victim, signal.SIGKILL)
        gateway.wait_until(
            lambda count=count: gateway.output().count("it is started again") == count,  # type: ignore[misc]
            "replace it",
        )
        gateway.wait_until(lambda: gateway.get("/readyz").json()["redis"] == "ok", "find it")
    children = children_of(gateway.process.pid)
    assert len(children) == 2
    (redis,) = set(children) - set(gateway.worker_pids())
    # If Redis inherited the listening socket, the port would stay in use when the gateway listens on another one.
    assert not listeners_of(gateway.process.pid) & listeners_of(redis)
    assert listeners_of(gateway.process.pid)
    assert gateway.stop() == 0
    assert not any(is_running(pid) for pid in children)
    assert not own_folders(gateway)


def test_a_private_redis_that_dies_during_a_reload_is_restarted_at_once(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway(four_services(upstream.url), workers=1)
    (redis,) = set(children_of(gateway.process.pid)) - set(gateway.worker_pids())
    released = threading.Event()

    def slow(_: Any, connection: Any) -> bool:
        released.wait(60)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        return True

    upstream.script = slow
    try:
        with Connection(gateway.port) as connection:
            connection.send(request_bytes("GET", "/api/devices", [bearer()]))
            assert upstream.wait_until(lambda: len(upstream.requests) == 1)
            gateway.process.send_signal(signal.SIGHUP)
            gateway.wait_until(lambda: gateway.output().count("Booting worker") == 2, "reload")
            os.kill(redis, signal.SIGKILL)
            # This happens long before the old workers reach their graceful timeout.
            gateway.wait_until(lambda: "it is started again" in gateway.output(), "replace it", 20)
            released.set()
            assert connection.reply().body == b"done"
    finally:
        released.set()


def test_a_killed_worker_is_replaced_and_the_others_continue(start_gateway: StartGateway) -> None:
    gateway = start_gateway({})
    victim = gateway.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    gateway.wait_until(lambda: gateway.output().count("Booting worker") == 3, "replace the worker")
    assert gateway.get("/readyz").json() == {"status": "ready", "redis": "ok", "keys": "ok"}


def test_a_worker_that_cant_start_is_tried_again_and_the_others_continue(
    start_gateway: StartGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    authorities, away = tmp_path / "ca.pem", tmp_path / "away.pem"
    shutil.copy(certifi.where(), authorities)
    settings = four_services(upstream.url)
    settings["services"]["devices"]["ca_file"] = str(authorities)
    settings["services"]["devices"]["targets"].append("https://127.0.0.1:1")
    gateway = start_gateway(settings)
    # Each worker reads the file of authorities when it starts.
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


def test_a_fork_that_fails_is_tried_again_and_the_others_continue(start_gateway: StartGateway, tmp_path: Path) -> None:
    file, configuration = tmp_path / "no-processes", tmp_path / "conf.py"
    configuration.write_text(NO_PROCESSES.format(file=str(file)))
    gateway = start_gateway({}, arguments=["--config", str(configuration)])
    file.touch()
    os.kill(gateway.worker_pids()[0], signal.SIGKILL)
    gateway.wait_until(lambda: "a worker can't be started now: Resource temporarily" in gateway.output(), "try")
    assert gateway.get("/healthz").status == 200
    file.unlink()
    gateway.wait_until(lambda: gateway.output().count("Booting worker") == 3, "start another")
    gateway.wait_until(lambda: len(gateway.worker_pids()) == 2, "have two")
    # If a reload could not start its new workers, it is completed later.
    old = gateway.worker_pids()
    file.touch()
    tried = gateway.output().count("a worker can't be started now")
    gateway.process.send_signal(signal.SIGHUP)
    gateway.wait_until(lambda: gateway.output().count("a worker can't be started now") > tried + 2, "try")
    assert gateway.get("/healthz").status == 200
    file.unlink()
    gateway.wait_until(lambda: not any(is_running(pid) for pid in old), "replace the old ones")
    gateway.wait_until(lambda: len(gateway.worker_pids()) == 2, "have two new ones")


def test_a_worker_that_cant_start_a_thread_is_tried_again(start_gateway: StartGateway, tmp_path: Path) -> None:
    file, configuration = tmp_path / "no-threads", tmp_path / "conf.py"
    configuration.write_text(NO_THREADS.format(file=str(file)))
    gateway = start_gateway({}, arguments=["--config", str(configuration)])
    gateway.wait_until(lambda: "gateway_workers 2.0" in gateway.get("/metrics").body.decode(), "have both")
    file.touch()
    os.kill(gateway.worker_pids()[0], signal.SIGKILL)
    gateway.wait_until(lambda: "another one will try: can't start new thread" in gateway.output(), "try")
    file.unlink()
    gateway.wait_until(lambda: "gateway_workers 2.0" in gateway.get("/metrics").body.decode(), "have both again")
    assert gateway.stop() == 0


def test_usr1_before_the_application_is_loaded_is_harmless(start_gateway: StartGateway, tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGUSR1)\nfrom wsgi import app\n"
    )
    gateway = start_gateway({}, workers=1, arguments=["--pythonpath", str(tmp_path)], application="early:app")
    assert gateway.get("/healthz").status == 200
    assert "Traceback" not in gateway.output()
