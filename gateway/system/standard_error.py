"""Standard error that nobody waits for: what its reader does not take is lost, and counted.

Messages are written wherever something happens: in the loop that serves all requests, and in gunicorn's master. A pipe
that nobody reads any more would stop both for good at the first message that does not fit.
"""

from __future__ import annotations

import io
import os
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from typing import Any

from gateway.system.sockets import system_poll

# A reader that is merely slow is given so much of each second.
PATIENCE_SECONDS = 0.1

Write = Callable[[bytes], int]


class UnwaitingErrors(io.RawIOBase):
    """Takes all that is written, and passes on what fits, each message at one go: others write there, too.

    `write_now` writes to where the descriptor leads, and raises BlockingIOError where it would have to wait."""

    def __init__(self, descriptor: int, write_now: Write) -> None:
        self._descriptor = descriptor
        self._write_now = write_now
        self._place = place_of(descriptor)
        self._lost = 0
        self._second, self._patience_left = 0, PATIENCE_SECONDS

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if place_of(self._descriptor) != self._place:
            # Somebody had it lead elsewhere, as gunicorn's --capture-output and --daemon do.
            return os.write(self._descriptor, data)
        if self._lost:
            note = b"\n%d messages to standard error were lost, as nobody took them\n" % self._lost
            if self._passes(note):
                self._lost = 0
        if not self._passes(bytes(data)):
            self._lost += 1
        return len(data)

    def _passes(self, data: bytes) -> bool:
        """Whether all of it went out."""
        while data:
            try:
                data = data[self._write_now(data) :]
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
        # One of its own for each look: threads may not share one.
        is_ready = bool(system_poll(self._descriptor, select.POLLOUT).poll(self._patience_left * 1000))
        self._patience_left -= max(time.monotonic() - now, 0.001)
        return is_ready


def wait_for_no_reader() -> None:
    """Has messages of this process, and of those forked from it, wait for nobody. Terminals and files stay as they
    are."""
    if isinstance(getattr(sys.stderr, "buffer", None), UnwaitingErrors):
        return
    try:
        descriptor = sys.stderr.fileno()
        write_now = unwaiting_write(descriptor)
    except (OSError, ValueError, AttributeError):
        return
    if write_now is not None:
        raw: Any = UnwaitingErrors(descriptor, write_now)
        sys.stderr = io.TextIOWrapper(raw, sys.stderr.encoding, errors="backslashreplace", write_through=True)


def unwaiting_write(descriptor: int) -> Write | None:
    """How to write there without waiting; None where that is not needed. Raises OSError where it can't be had.

    The descriptor itself must not be set not to block: whoever else has it would be, too."""
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(kind):
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return lambda data: os.write(own, data)
    if stat.S_ISSOCK(kind):
        connection = socket.socket(fileno=os.dup(descriptor))
        # The system's own, below gevent's.
        send = getattr(connection, "_sock", connection).send
        return lambda data: int(send(data, socket.MSG_DONTWAIT))
    return None


def place_of(descriptor: int) -> tuple[int, int]:
    """What a descriptor leads to."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
