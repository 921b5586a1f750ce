"""Child processes that never outlive this one, each in its own session."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gevent.monkey import get_original

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 10.0


class Child:
    """A child process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._parent = os.getpid()
        self._has_ended = False

    @classmethod
    def start(cls, command: Sequence[str], folder: Path, log: Path, environ: Mapping[str, str]) -> Child:
        """Starts `command` in `folder`, and appends its output to `log`. On Linux the kernel kills it when this process
        dies.

        Uses fork and exec: gevent's subprocess needs a SIGCHLD handler, which gunicorn's master replaces."""
        # Loaded before the fork: between fork and exec nothing may be imported.
        prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None
        parent, descriptors = os.getpid(), os.sysconf("SC_OPEN_MAX")
        pid: int = get_original("os", "fork")()
        if pid:
            return cls(pid)
        try:
            if prctl is not None:
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != parent:
                    os._exit(1)
            # Ctrl-C on the terminal must reach only the parent, which then stops this process.
            os.setsid()
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            # Closes gunicorn's listeners. They are inheritable for gunicorn's own restart, but this process would keep
            # their ports in use.
            os.closerange(3, descriptors)
            os.execve(command[0], list(command), dict(environ))  # noqa: S606 - runs without a shell
        finally:
            os._exit(127)

    def has_ended(self) -> bool:
        # Once the process has ended, its id may belong to another process, so `has_ended` is not called again.
        self._has_ended = self._has_ended or has_ended(self.pid)
        return self._has_ended

    def kill(self) -> None:
        """Kills the process. Does nothing in a fork of the process that started it. May be called in a signal
        handler."""
        if os.getpid() == self._parent and not self.has_ended():
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                get_original("os", "waitpid")(self.pid, 0)

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Sends SIGTERM, and SIGKILL after the timeout. Does nothing in a fork of the process that started it."""
        if os.getpid() != self._parent:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self.has_ended():
                return
            with suppress(ProcessLookupError):
                os.kill(self.pid, sign)
            deadline = time.monotonic() + timeout_seconds
            while time.monotonic() < deadline and not self.has_ended():
                time.sleep(0.02)


def has_ended(pid: int) -> bool:
    """Whether a process has ended. Reaps it if it is a child."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
