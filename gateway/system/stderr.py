"""Standard error that nobody waits for: what its reader does not take is lost, and counted.

Messages are written wherever something happens: in the loop that serves all requests, and in gunicorn's master. A pipe
that nobody reads any more would stop both for good at the first message that does not fit.
"""

from __future__ import annotations

import _socket
import io
import os
import select
import stat
import sys
import time
from typing import Any

from gateway.system.pipe_messages import write_message
from gateway.system.sockets import system_poll

# A reader that is merely slow is given so much of each second.
PATIENCE_SECONDS = 0.1


class NonBlockingStderr(io.RawIOBase):
    """Takes all that is written, and passes on what fits, each message at one go: others write there, too."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lost = 0
        self._second, self._patience_left = 0, PATIENCE_SECONDS

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        if self._lost:
            note = b"%d messages to standard error were lost, as nobody took them\n" % self._lost
            if self._passes(note):
                self._lost = 0
        if not self._passes(bytes(data)):
            self._lost += 1
        return len(data)

    def _passes(self, data: bytes) -> bool:
        """Whether all of it went out."""
        try:
            # It may lead elsewhere by now, as gunicorn's --capture-output and --daemon have it.
            if stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
                return write_message(self._descriptor, data, self._can_wait)
            while data:
                try:
                    data = data[write_now(self._descriptor, data) :]
                except BlockingIOError:
                    if not self._can_wait():
                        return False
        except OSError:
            # Its reader has gone.
            return False
        return True

    def _can_wait(self) -> bool:
        """Waits a moment, if there is one left; whether something fits now."""
        now = time.monotonic()
        if int(now) != self._second:
            self._second, self._patience_left = int(now), PATIENCE_SECONDS
        if self._patience_left <= 0:
            return False
        is_ready = can_write(self._descriptor, self._patience_left)
        self._patience_left -= max(time.monotonic() - now, 0.001)
        return is_ready


def wait_for_no_reader() -> None:
    """Has messages of this process, and of those forked from it, wait for nobody who reads them from a pipe or a
    socket."""
    if isinstance(getattr(sys.stderr, "buffer", None), NonBlockingStderr) or sys.stderr is None:
        return
    raw: Any = NonBlockingStderr(sys.stderr.fileno())
    sys.stderr = io.TextIOWrapper(raw, sys.stderr.encoding, errors="backslashreplace", write_through=True)


def write_now(descriptor: int, data: bytes) -> int:
    """How much of it was written there. Raises BlockingIOError where a socket takes nothing now, else OSError."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return os.write(descriptor, data)
    # The system's own, below gevent's.
    connection = _socket.socket(fileno=descriptor)
    try:
        return connection.send(data, _socket.MSG_DONTWAIT)
    finally:
        connection.detach()


def can_write(descriptor: int, seconds: float) -> bool:
    # A poll of its own each time: threads may not share one.
    return bool(system_poll(descriptor, select.POLLOUT).poll(seconds * 1000))
