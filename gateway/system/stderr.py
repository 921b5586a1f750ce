"""Standard error that never blocks: a message is dropped and counted if the reader does not make room for it in time.

Messages are written in the loop that serves all requests, and in gunicorn's master. If standard error is a pipe whose
reader hangs, the first message that does not fit into the pipe would block both for ever."""

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

# In each second, writing waits for a slow reader this long at most.
MAX_WAIT_SECONDS = 0.1


class NonBlockingStderr(io.RawIOBase):
    """Accepts every message and writes the messages that fit. Each is written in one piece, as other processes write
    there, too."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._dropped = 0
        self._second, self._wait_left = 0, MAX_WAIT_SECONDS

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        if self._dropped:
            note = b"%d messages to standard error were dropped, as nobody read them\n" % self._dropped
            if self._try_write(note):
                self._dropped = 0
        if not self._try_write(bytes(data)):
            self._dropped += 1
        return len(data)

    def _try_write(self, data: bytes) -> bool:
        """Writes the message. Returns whether all of it was written."""
        try:
            # The kind of file is checked each time: gunicorn's --capture-output and --daemon redirect the descriptor
            # later.
            if stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
                return write_message(self._descriptor, data, self._may_wait)
            while data:
                try:
                    data = data[write_now(self._descriptor, data) :]
                except BlockingIOError:
                    if not self._may_wait():
                        return False
        except OSError:
            # Standard error has no reader any more.
            return False
        return True

    def _may_wait(self) -> bool:
        """Waits for the reader, for the rest of this second's MAX_WAIT_SECONDS. Returns whether something can be
        written now."""
        now = time.monotonic()
        if int(now) != self._second:
            self._second, self._wait_left = int(now), MAX_WAIT_SECONDS
        if self._wait_left <= 0:
            return False
        is_ready = can_write(self._descriptor, self._wait_left)
        self._wait_left -= max(time.monotonic() - now, 0.001)
        return is_ready


def install_non_blocking_stderr() -> None:
    """Replaces `sys.stderr` in this process and its forks."""
    if isinstance(getattr(sys.stderr, "buffer", None), NonBlockingStderr) or sys.stderr is None:
        return
    raw: Any = NonBlockingStderr(sys.stderr.fileno())
    sys.stderr = io.TextIOWrapper(raw, sys.stderr.encoding, errors="backslashreplace", write_through=True)


def write_now(descriptor: int, data: bytes) -> int:
    """Writes what can be written now, and returns the number of bytes. Raises BlockingIOError if a socket accepts none
    now, or another OSError."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return os.write(descriptor, data)
    # A socket of the system: a socket of gevent would wait.
    connection = _socket.socket(fileno=descriptor)
    try:
        return connection.send(data, _socket.MSG_DONTWAIT)
    finally:
        connection.detach()


def can_write(descriptor: int, seconds: float) -> bool:
    # A new poll object each time, as threads must not share one.
    return bool(system_poll(descriptor, select.POLLOUT).poll(seconds * 1000))
