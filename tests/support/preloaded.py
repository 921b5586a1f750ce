"""Starts `python -m gunicorn …` and `python -m flask …` without importing all modules each time, as the imports are
most of the CPU time of a start.

A server process imports the libraries and the gateway's modules once, then forks for each start. The forked process
runs the command from the beginning: nothing has been configured, built or connected in it, and it shares no memory with
its siblings. Tests of the imports themselves start a new interpreter.
"""

from __future__ import annotations

import array
import ctypes
import gc
import importlib
import json
import mmap
import os
import re
import runpy
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TextIO

from gevent import monkey
from gevent.monkey import get_original
from gevent.os import fork_gevent

ROOT = Path(__file__).resolve().parents[2]

# Modules to import, in addition to those that gunicorn.conf.py and wsgi.py name.
MODULES = {
    "gunicorn": "gunicorn.app.wsgiapp gunicorn.http.wsgi gunicorn.workers.ggevent prometheus_client.multiprocess",
    "flask": "flask.cli",
}
# When prometheus_client is imported, this variable decides whether it counts for several processes. The name of the
# folder is only read at the first count: by then the gateway has set the name of its own folder.
COUNT_FOR_SEVERAL = {"PROMETHEUS_MULTIPROC_DIR": os.devnull}
# Variables that Python or a library reads while it is imported.
READ_AT_IMPORT = ("PYTHON", "GEVENT", "OTEL", "PROMETHEUS", "FLASK", "LANG", "LC_")
PAUSE_SECONDS = 0.01
COMMAND_SECONDS = 60
MAP_FIXED = 0x10
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
# This number in place of the length of a request asks for the exit codes.
ASK_FOR_ENDS = 0


class PreloadedProcess:
    """A process started by forking, with those methods of `subprocess.Popen` that tests use."""

    def __init__(
        self, words: Sequence[str], environ: Mapping[str, str], folder: Path, outputs: tuple[int, int]
    ) -> None:
        self._server = server(words[0])
        self.returncode: int | None = None
        request = {"words": list(words), "environ": dict(environ), "folder": str(folder)}
        self.pid = self._server.start(request, outputs)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.exit_code(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a preloaded process", timeout or 0)
            # Pause between two polls; its length does not matter.
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
    """The client side of the process that forks. Each process of the tests has one such server for each command; it
    ends with the tests."""

    def __init__(self, command: str) -> None:
        self._socket, other = socket.socketpair()
        words = [sys.executable, "-m", "tests.support.preloaded", command, str(other.fileno())]
        environ = os.environ | (COUNT_FOR_SEVERAL if command == "gunicorn" else {})
        subprocess.Popen(words, cwd=ROOT, env=environ, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL)
        other.close()
        self._lines = self._socket.makefile("r")
        self._lock = Lock()
        self._exit_codes: dict[int, int] = {}

    def start(self, request: Mapping[str, object], outputs: tuple[int, int]) -> int:
        """Starts a process. Returns its id."""
        data = json.dumps(request).encode()
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", outputs))]
        with self._lock:
            self._socket.sendmsg([len(data).to_bytes(4, "big")], ancillary)
            self._socket.sendall(data)
            return int(self._lines.readline())

    def exit_code(self, pid: int) -> int | None:
        """The exit code in the form that `subprocess` uses; None while the process runs."""
        with self._lock:
            self._socket.sendall(ASK_FOR_ENDS.to_bytes(4, "big"))
            self._exit_codes.update((int(one), code) for one, code in json.loads(self._lines.readline()).items())
            return self._exit_codes.get(pid)


def start(
    words: Sequence[str], environ: Mapping[str, str], folder: Path, outputs: tuple[int, int]
) -> PreloadedProcess | subprocess.Popen[bytes]:
    """Starts `python -m WORDS` (a module and its arguments) in a folder. `outputs` are the descriptors of its standard
    output and standard error."""
    if may_be_preloaded(environ):
        return PreloadedProcess(words, environ, folder, outputs)
    command = [sys.executable, "-m", *words]
    stdout, stderr = outputs
    return subprocess.Popen(command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)


def run(
    words: Sequence[str], environ: Mapping[str, str], stdout: TextIO | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m WORDS` beside wsgi.py to its end. Its output is in the result, or in the file `stdout`."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = start(words, environ, ROOT, ((stdout or output).fileno(), errors.fileno()))
        try:
            code = process.wait(COMMAND_SECONDS)
        except BaseException:
            process.kill()
            raise
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, code, output.read(), errors.read())


def start_activated(
    words: Sequence[str], environ: Mapping[str, str], folder: Path, output: int, listener: socket.socket
) -> subprocess.Popen[bytes]:
    """Starts `python -m WORDS` with a socket that is passed as systemd does: as descriptor 3, with LISTEN_PID."""
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
def server(command: str) -> Server:
    return Server(command)


def may_be_preloaded(environ: Mapping[str, str]) -> bool:
    """Whether the variables that are read at import have the same values as in this process, where the modules are
    imported."""
    return not any(name.startswith(READ_AT_IMPORT) and os.environ.get(name) != value for name, value in environ.items())


def serve(connection: socket.socket, fork: Callable[[], int]) -> None:
    """Serves requests to start processes and to report exits, until the process of the tests ends."""
    running: set[int] = set()
    while True:
        header, descriptors, *_ = socket.recv_fds(connection, 4, 2)
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
            run_module(request["words"], request["environ"], descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        running.add(pid)
        connection.sendall(b"%d\n" % pid)


def exit_codes(running: set[int]) -> dict[int, int]:
    """The exit codes of all processes that ended since the last call."""
    codes = {}
    for pid in list(running):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            running.discard(pid)
            codes[pid] = os.waitstatus_to_exitcode(status)
    return codes


def run_module(words: Sequence[str], environ: Mapping[str, str], outputs: Sequence[int]) -> None:
    os.environ.clear()
    os.environ.update(environ)
    for descriptor, output in enumerate(outputs, start=1):
        os.dup2(output, descriptor)
        os.close(output)
    renew_shared_memory()
    worker_state = vars(importlib.import_module("gateway.status.worker_state"))
    # The id of a gateway is created at import, so that all its workers have the same one. Each forked gateway needs its
    # own.
    assert "GATEWAY_ID" in worker_state
    worker_state["GATEWAY_ID"] = secrets.token_hex(4)
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def renew_shared_memory() -> None:
    """Gives this process its own copy of all memory that it shares with its siblings. Modules of the gateway create
    such memory when they are imported, for gunicorn's master and its workers."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    for start, end in re.findall(r"(?m)^(\w+)-(\w+) rw-s .* /dev/zero ", Path("/proc/self/maps").read_text()):
        address, length = int(start, 16), int(end, 16) - int(start, 16)
        content = ctypes.string_at(address, length)
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | MAP_FIXED
        assert libc.mmap(address, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) == address
        ctypes.memmove(address, content, length)


def named_in_files(command: str) -> list[str]:
    files = [ROOT / "wsgi.py", *([ROOT / "gunicorn.conf.py"] if command == "gunicorn" else [])]
    return [name for file in files for name in re.findall(r"(?m)^ *from (gateway\.[\w.]+) import", file.read_text())]


def main() -> None:
    command, descriptor = sys.argv[1], int(sys.argv[2])
    # As in production, gunicorn's processes are patched for gevent and those of commands are not.
    if command == "gunicorn":
        monkey.patch_all()
    for name in [*MODULES[command].split(), "gateway.application", "gateway.library_checks", *named_in_files(command)]:
        importlib.import_module(name)
    # Without this, garbage collection (also the one at the end of a process) would copy all memory that is shared with
    # this process.
    gc.freeze()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    connection = get_original("socket", "socket")(fileno=descriptor)
    serve(connection, fork_gevent if command == "gunicorn" else os.fork)


if __name__ == "__main__":
    main()
