"""gunicorn's own options and WSGI middleware work with the gateway's worker."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services

StartGateway = Callable[..., GatewayProcess]
NOWHERE = four_services("http://127.0.0.1:9")
ALIVE = request_bytes("GET", "/healthz")
WRAPPED = """
from io import BytesIO
from wsgi import app as gateway

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path not in ("/list", "/file"):
        return gateway(environ, start_response)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"o", b"k"] if path == "/list" else environ["wsgi.file_wrapper"](BytesIO(b"ok"), 1)
"""


def test_gunicorns_access_log_can_be_used_too(start_gateway: StartGateway) -> None:
    gateway = start_gateway(
        NOWHERE, workers=1, arguments=["--access-logfile", "-", "--access-logformat", "%(s)s %(B)s <"]
    )
    with Connection(gateway.port) as connection:
        for _ in range(2):
            connection.send(ALIVE)
            length = len(connection.reply().body)
    gateway.wait_until(lambda: gateway.output().count(f"200 {length} <") == 2, "log both")
    assert "Traceback" not in gateway.output()


def test_a_middleware_can_respond_itself(start_gateway: StartGateway, tmp_path: Path) -> None:
    (tmp_path / "wrapped.py").write_text(WRAPPED)
    arguments = ["--pythonpath", str(tmp_path)]
    gateway = start_gateway(NOWHERE, workers=1, arguments=arguments, application="wrapped:app")
    with Connection(gateway.port) as connection:
        for target in ("/list", "/file", "/healthz"):
            connection.send(request_bytes("GET", target))
            reply = connection.reply()
            assert (reply.status, reply.body == b"ok") == (200, target != "/healthz")


def test_the_connection_is_closed_after_connect(start_gateway: StartGateway) -> None:
    gateway = start_gateway(NOWHERE, workers=1)
    with Connection(gateway.port) as connection:
        # After CONNECT the client sends the bytes of a tunnel, which must not be parsed as a request.
        connection.send(b"CONNECT gateway:443 HTTP/1.1\r\nHost: gateway:443\r\n\r\n" + ALIVE)
        answers = connection.rest()
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answers


def test_without_keep_alive_responses_say_connection_close(start_gateway: StartGateway) -> None:
    gateway = start_gateway(NOWHERE, workers=1, arguments=["--keep-alive", "0"])
    with Connection(gateway.port) as connection:
        connection.send(ALIVE)
        assert b"\r\nConnection: close\r\n" in connection.rest()


def test_a_refused_client_that_stays_connected_does_not_delay_ctrl_c(start_gateway: StartGateway) -> None:
    gateway = start_gateway(NOWHERE, workers=1)
    with Connection(gateway.port) as connection:
        connection.send(b"BAD\r\n\r\n")
        assert connection.reply().status == 400
        assert gateway.stop(signal.SIGINT) == 0
    assert "Traceback" not in gateway.output()


@pytest.mark.parametrize("kind", ["gthread", "sync"])
def test_another_worker_class_is_refused(start_gateway: StartGateway, kind: str) -> None:
    with pytest.raises(AssertionError) as refused:
        start_gateway(NOWHERE, arguments=["--worker-class", kind])
    assert f"--worker-class {kind}: the gateway needs its own one" in str(refused.value)
    assert "Traceback" not in str(refused.value)
