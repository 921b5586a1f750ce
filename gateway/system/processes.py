"""Child processes that never outlive this one: started in a session of their own, ended by process id."""

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
    """A started process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._parent = os.getpid()
        self._has_ended = False

    @classmethod
    def start(cls, command: Sequence[str], folder: Path, log: Path, environ: Mapping[str, str]) -> Child:
        """Starts `command` in `folder`, its output in `log`. On Linux the kernel kills it when this process dies,
        however that dies.

        By hand, as gevent's subprocess watches children with a signal handler that gunicorn's master replaces."""
        # Looked up now: between fork and exec nothing may be imported.
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
            # Ctrl-C on the terminal is for the parent, which ends this one in its turn.
            os.setsid()
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            # gunicorn's listeners are to be inherited, by gunicorn: nobody else may keep their ports taken.
            os.closerange(3, descriptors)
            os.execve(command[0], list(command), dict(environ))  # noqa: S606 - no shell in between is what is wanted
        finally:
            os._exit(127)

    def has_ended(self) -> bool:
        # Once it has, its id may be another process's.
        self._has_ended = self._has_ended or has_ended(self.pid)
        return self._has_ended

    def kill(self) -> None:
        """Ends the process at once; nothing, in a process forked from the one that started it. It may be called in a
        signal's handler."""
        if os.getpid() == self._parent and not self.has_ended():
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                get_original("os", "waitpid")(self.pid, 0)

    def stop(self, patience_seconds: float = STOP_SECONDS) -> None:
        """Asks the process to end, and makes it where it does not listen. Does nothing in a process forked from the
        one that started it."""
        if os.getpid() != self._parent:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self.has_ended():
                return
            with suppress(ProcessLookupError):
                os.kill(self.pid, sign)
            deadline = time.monotonic() + patience_seconds
            while time.monotonic() < deadline and not self.has_ended():
                time.sleep(0.02)


def has_ended(pid: int) -> bool:
    """Whether a process has ended; a child's end is collected on the way, if nobody else did."""
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
