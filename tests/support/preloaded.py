"""Starts `python -m MODULE …` in a process that has imported the libraries already, which saves half a second of CPU.

A server process imports them once, patched for gevent as in production, and forks for each start. The forked process
runs the module from the beginning: nothing of the gateway has been imported, configured or connected in it.
"""

from __future__ import annotations

import array
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock

from gevent import monkey
from gevent.monkey import get_original

# prometheus_client is not among them: how it counts depends on the environment in which it is first imported.
LIBRARIES = (
    "certifi cryptography.x509 email.utils flask flask_cors flask_limiter gevent.pool gevent.pywsgi gevent.threadpool "
    "gunicorn.app.wsgiapp gunicorn.arbiter gunicorn.http.message gunicorn.http.wsgi gunicorn.sock "
    "gunicorn.workers.ggevent hiredis http.cookiejar "
    "jwt limits.strategies pydantic pydantic_settings redis redis.sentinel requests tomllib werkzeug.routing yaml"
).split()
# Variables that mean something to Python or a library while it is imported.
READ_AT_IMPORT = ("PYTHON", "GEVENT", "OTEL", "PROMETHEUS", "FLASK")
PAUSE_SECONDS = 0.01
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
# In the place of a request's length.
ASK_FOR_ENDS = 0


class PreloadedProcess:
    """A started process, with those of `subprocess.Popen`'s methods that tests use."""

    def __init__(self, words: Sequence[str], environ: Mapping[str, str], folder: Path, output: int) -> None:
        self._server = server()
        self.returncode: int | None = None
        request = {"words": list(words), "environ": dict(environ), "folder": str(folder)}
        self.pid = self._server.start(request, output)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.exit_code(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a preloaded process", timeout or 0)
            # Between two looks; nothing depends on how long.
            time.sleep(PAUSE_SECONDS)
        return code

    def send_signal(self, sign: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sign)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that forks, one of each process of the tests; it ends with them."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair()
        command = [sys.executable, "-m", "tests.support.preloaded", str(other.fileno())]
        root = Path(__file__).resolve().parents[2]
        subprocess.Popen(command, cwd=root, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL)
        other.close()
        self._lines = self._socket.makefile("r")
        self._lock = Lock()
        self._exit_codes: dict[int, int] = {}

    def start(self, request: Mapping[str, object], output: int) -> int:
        """The process id."""
        data = json.dumps(request).encode()
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [output]))]
        with self._lock:
            self._socket.sendmsg([len(data).to_bytes(4, "big")], ancillary)
            self._socket.sendall(data)
            return int(self._lines.readline())

    def exit_code(self, pid: int) -> int | None:
        """As `subprocess` gives it; None as long as the process runs."""
        with self._lock:
            self._socket.sendall(ASK_FOR_ENDS.to_bytes(4, "big"))
            self._exit_codes.update((int(one), code) for one, code in json.loads(self._lines.readline()).items())
            return self._exit_codes.get(pid)


def start(
    words: Sequence[str], environ: Mapping[str, str], folder: Path, output: int
) -> PreloadedProcess | subprocess.Popen[bytes]:
    """Starts `python -m WORDS`, a module and its arguments, in a folder, both of its outputs into one file."""
    if may_be_preloaded(environ):
        return PreloadedProcess(words, environ, folder, output)
    command = [sys.executable, "-m", *words]
    return subprocess.Popen(command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def start_activated(
    words: Sequence[str], environ: Mapping[str, str], folder: Path, output: int, listener: socket.socket
) -> subprocess.Popen[bytes]:
    """The same, with a socket passed as systemd passes it: as descriptor 3, LISTEN_PID naming the process."""
    return subprocess.Popen(
        [sys.executable, "-c", ACTIVATE, str(listener.fileno()), "-m", *words],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=[listener.fileno()],
    )


@cache
def server() -> Server:
    return Server()


def may_be_preloaded(environ: Mapping[str, str]) -> bool:
    """Whether nothing in it, beyond what is in this process's own, is for the libraries to read."""
    return not any(name.startswith(READ_AT_IMPORT) and os.environ.get(name) != value for name, value in environ.items())


def serve(connection: socket.socket, fork: Callable[[], int]) -> None:
    """Takes starts and questions about ends until the tests' process has gone."""
    running: set[int] = set()
    while True:
        header, descriptors, *_ = socket.recv_fds(connection, 4, 1)
        if not header:
            return
        number = int.from_bytes(header, "big")
        if number == ASK_FOR_ENDS:
            connection.sendall(json.dumps(exit_codes(running)).encode() + b"\n")
            continue
        request = json.loads(connection.recv(number, socket.MSG_WAITALL))
        pid = fork()
        if not pid:
            connection.close()
            os.chdir(request["folder"])
            run(request["words"], request["environ"], descriptors[0])
            return
        os.close(descriptors[0])
        running.add(pid)
        connection.sendall(b"%d\n" % pid)


def exit_codes(running: set[int]) -> dict[int, int]:
    """Of those that have ended since the last time."""
    codes = {}
    for pid in list(running):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            running.discard(pid)
            codes[pid] = os.waitstatus_to_exitcode(status)
    return codes


def run(words: Sequence[str], environ: Mapping[str, str], output: int) -> None:
    os.environ.clear()
    os.environ.update(environ)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def main() -> None:
    monkey.patch_all()
    for name in LIBRARIES:
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve(get_original("socket", "socket")(fileno=int(sys.argv[1])), get_original("os", "fork"))


if __name__ == "__main__":
    main()
