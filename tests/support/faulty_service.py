"""A service in its own process that fails in a given way, and can be killed and restarted at the same address."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

from tests.support.faulty_server import REFUSE
from tests.support.gateway import ROOT, clean_environment
from tests.support.redis import free_port, is_stopped, wait_until

# In this mode the process is stopped: the kernel still accepts connections and bytes, but nothing reads them.
FROZEN = "frozen"


class FaultyService:
    """`mode` is `refuse` (nothing listens), `frozen`, or the name of a response of `faulty_server`."""

    def __init__(self, mode: str = "good") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start(mode)

    def __enter__(self) -> FaultyService:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, mode: str = "good") -> None:
        """Starts the process and waits until it listens."""
        assert self._process is None
        first = "hang" if mode == FROZEN else mode
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.faulty_server", str(self.port), first],
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._wait_for_confirmation()
        if mode == FROZEN:
            pid = self._process.pid
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda: is_stopped(pid), "the service is stopped")

    def become(self, mode: str) -> None:
        """Sets the mode. The mode `refuse` also ends the open connections."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{mode}\n".encode())
        self._process.stdin.flush()
        self._wait_for_confirmation()

    def refuse(self) -> None:
        self.become(REFUSE)

    def kill(self) -> None:
        """Kills the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()

    def _wait_for_confirmation(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"\n", "the service ended"
