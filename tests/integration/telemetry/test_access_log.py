"""The access log: rotation, contents, and a reader that is stuck."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.certificates import Authority
from tests.support.client import Connection, exchange, request_bytes
from tests.support.gateway import ROOT, GatewayProcess, clean_environment, four_services, variables
from tests.support.tokens import SECRET, bearer
from tests.support.upstream import ScriptedUpstream, answering

StartGateway = Callable[..., GatewayProcess]
NONSENSE = b"nonsense\r\n\r\n"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_usr1_reopens_the_file_after_a_rotation(
    start_gateway: StartGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    log, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    gateway = start_gateway(four_services(upstream.url) | {"log": {"file": str(log)}})
    for _ in range(20):
        assert gateway.get("/api/devices", bearer()).status == 200
    gateway.wait_until(lambda: len(lines_of(log)) == 20, "write all lines")
    log.rename(moved)
    gateway.process.send_signal(signal.SIGUSR1)

    def is_reopened() -> bool:
        # The workers handle the signal at different times.
        gateway.get("/api/devices", bearer())
        return len({*map(str, lines_of(log))}) >= 5

    gateway.wait_until(is_reopened, "reopen the file")
    assert gateway.access_log() == []
    assert log.stat().st_mode & 0o777 == 0o640
    assert gateway.stop() == 0
    # Each line is in exactly one of the two files.
    assert len(lines_of(log) + lines_of(moved)) == len(upstream.requests)


def test_settings_choose_what_is_logged(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    settings = {"log": {"query": True, "principal": "hash", "sample_successes": 0}}
    gateway = start_gateway(four_services(upstream.url) | settings, workers=1)
    assert gateway.get("/api/devices?page=2", bearer()).status == 200
    upstream.script = answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    for _ in range(2):
        assert gateway.get("/api/devices/1?a=%0A", bearer("ada@example.com")).status == 404
    gateway.wait_until(lambda: len(gateway.access_log()) == 2, "log the failures")
    first, second = gateway.access_log()
    assert (first["path"], first["query"], first["status"]) == ("/api/devices/1", "a=%0A", 404)
    assert first["principal"] == second["principal"] != "ada@example.com"
    assert "ada@" not in gateway.output()


def test_times_and_bytes_of_a_request(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    gateway = start_gateway(four_services(upstream.url), workers=1)
    body = b"x" * 100_000
    assert gateway.request("POST", "/api/devices/7?x=1", [bearer("ada@example.com")], body).status == 200
    line = gateway.wait_for_log(lambda line: line["method"] == "POST")
    assert (line["received_bytes"], line["sent_bytes"]) == (len(body), 11)
    assert (line["template"], line["route"], line["query"]) == ("/api/devices/**", "devices", "redacted")
    assert line["principal"] == "ada@example.com"
    (attempt,) = line["attempts"]
    assert (attempt["target"], attempt["outcome"]) == (upstream.url, "answered")
    assert 0 < attempt["seconds"] <= line["upstream_seconds"]
    parts = line["gateway_seconds"] + line["redis_seconds"] + line["upstream_seconds"]
    assert 0 < parts <= line["seconds"] + 0.000_01


def test_a_line_fits_into_one_write_whatever_a_client_sends(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway(four_services(upstream.url) | {"log": {"query": True}}, workers=1)
    # With a longer subject, the token would exceed max_token_bytes.
    subject, path = "\U0001f511" * 300 + "\x00\x1b" * 100, "/api/devices/" + "p" * 2000
    fields = [bearer(subject), ("X-Request-Id", "r" * 128)]
    assert gateway.request("M" * 2000, f"{path}?{'q' * 2000}", fields).status == 200
    line = gateway.wait_for_log(lambda line: line["status"] == 200)
    (written,) = [text for text in gateway.output().splitlines() if text.startswith("{")]
    # A write to a pipe is atomic up to 4096 bytes (PIPE_BUF). A longer line could be mixed with a line of another
    # worker.
    assert len(written) < 4096
    assert subject.startswith(line["principal"].removesuffix("…"))
    assert (line["path"][:200], line["query"][:200], line["method"][:200]) == (path[:200], "q" * 200, "M" * 200)


def test_a_stuck_reader_of_standard_output_delays_no_request(upstream: ScriptedUpstream) -> None:
    environ = variables(four_services(upstream.url) | {"jwt": {"secret": SECRET}, "server": {"bind": "127.0.0.1:0"}})
    environ |= {"GATEWAY_RATELIMIT__DEFAULT": "1000000/minute", "WEB_CONCURRENCY": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "wsgi:app"],
        cwd=ROOT,
        env=clean_environment() | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "Listening at:" in line:
                port = int(line.partition("http://127.0.0.1:")[2].split()[0])
                break
        # Nobody reads the pipe, and it can't hold the lines of so many requests.
        request = request_bytes("GET", "/api/devices", [bearer(), ("X-Request-Id", "r" * 128)])
        with Connection(port) as connection:
            for _ in range(500):
                connection.send(request)
                assert connection.reply().status == 200
        assert exchange(port, request_bytes("GET", "/healthz")).status == 200
    finally:
        process.kill()
        process.communicate()


def test_a_stuck_reader_of_standard_error_delays_no_request(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = map(str, authority.issue("gateway", "localhost"))
    trusting = ssl.create_default_context(cafile=str(authority.ca_file))
    environ = variables(four_services(upstream.url) | {"jwt": {"secret": SECRET}, "server": {"bind": "127.0.0.1:0"}})
    # Standard output and standard error share one small pipe, as with `2>&1`.
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--certfile", certificate, "--keyfile", key, "wsgi:app"],
        cwd=ROOT,
        env=clean_environment() | environ | {"WEB_CONCURRENCY": "1"},
        stdout=writer,
        stderr=writer,
    )
    os.close(writer)
    try:
        output = b""
        while b"Booting worker" not in output:
            output += os.read(reader, 4096)
        found = re.search(rb"Listening at: https://127.0.0.1:(\d+)", output)
        assert found is not None
        port = int(found[1])

        def fail_the_handshake() -> None:
            with Connection(port) as connection:
                connection.send(NONSENSE)
                connection.rest()

        # Each failure is logged: many more lines than fit into the pipe.
        for _ in range(200):
            fail_the_handshake()
        with Connection(port) as connection:
            connection.socket = trusting.wrap_socket(connection.socket, server_hostname="localhost")
            connection.send(request_bytes("GET", "/healthz"))
            assert connection.reply().status == 200
        output = b""
        while b"messages to standard error were dropped" not in output:
            fail_the_handshake()
            output = output[-100:] + os.read(reader, 4096)
        # The pipe is full when the master logs its exit.
        for _ in range(50):
            fail_the_handshake()
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)


def test_on_a_terminal_lines_are_text_without_control_codes_of_clients(upstream: ScriptedUpstream) -> None:
    environ = variables(four_services(upstream.url) | {"jwt": {"secret": SECRET}, "server": {"bind": "127.0.0.1:0"}})
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "wsgi:app"],
        cwd=ROOT,
        env=clean_environment() | environ | {"WEB_CONCURRENCY": "1"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = ""

    def read_until(words: str) -> None:
        nonlocal shown
        deadline = time.monotonic() + 30
        while words not in shown:
            assert time.monotonic() < deadline, shown
            shown += os.read(ours, 65536).decode()

    try:
        read_until("Booting worker")
        port = int(shown.partition("http://127.0.0.1:")[2].split()[0])
        with Connection(port) as connection:
            connection.send(request_bytes("GET", "/api/devices?token=x", [bearer("a\x1b[31mb\nc")]))
            assert connection.reply().status == 200
        read_until("principal=")
        line = next(line for line in shown.splitlines() if "principal=" in line)
        assert "\x1b[32m200\x1b[0m GET /api/devices " in line
        assert line.endswith("service=devices principal=a\\u001b[31mb\\nc")
    finally:
        process.terminate()
        process.wait(30)
        os.close(ours)
