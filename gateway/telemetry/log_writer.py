"""Writes log lines in a background thread, so that no request waits for a disk or for the reader of a pipe. Lines that
can't be written in time are dropped and counted.

The standard library's QueueHandler and QueueListener would make a request 6 % more expensive (measured): they create
and copy a LogRecord for each line and write each line on its own. Their listener also waits for a stuck pipe forever.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

from gateway.system.native_threads import run_in_native_thread
from gateway.system.pipe_messages import PIPE_BYTES, write_message
from gateway.system.stderr import can_write
from gateway.system.threads import PerProcessThread

MAX_QUEUED_LINES = 20_000
FLUSH_SECONDS = 2.0
# The longest single wait for a pipe's reader, or for another process that writes to the same pipe.
WAIT_SECONDS = 0.1
FILE_BYTES = 64 * 1024

log = logging.getLogger(__name__)


class Output:
    """Where lines are written: to standard output if `path` is None, else to the end of a file that can be reopened
    after a log rotation."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._must_reopen = False

    @property
    def is_terminal(self) -> bool:
        return self._path is None and sys.stdout.isatty()

    def reopen(self) -> None:
        """Makes the next write open the file by its name again.

        The old descriptor is not closed here: another thread may be writing to it. After a close, that write would go
        on to whatever gets the same number next, such as a client's connection."""
        self._must_reopen = True

    def write(self, lines: list[bytes]) -> None:
        """Writes lines in pieces. The lines of other processes never get into a piece. Raises OSError."""
        descriptor = self._open()
        mode = os.fstat(descriptor).st_mode
        for piece in joined(lines, FILE_BYTES if stat.S_ISREG(mode) else PIPE_BYTES):
            if stat.S_ISFIFO(mode):
                write_message(descriptor, piece, lambda: can_write(descriptor, WAIT_SECONDS) or True)
                continue
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(descriptor, rest) :]

    def _open(self) -> int:
        if self._must_reopen:
            self._must_reopen = False
            if self._descriptor is not None and self._path is not None:
                os.close(self._descriptor)
            self._descriptor = None
        if self._descriptor is None:
            if self._path is None:
                sys.stdout.flush()
                self._descriptor = sys.stdout.fileno()
            else:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        return self._descriptor


def joined(lines: list[bytes], max_bytes: int) -> Iterator[bytes]:
    """Yields the lines in pieces of at most `max_bytes`; a longer line is a piece of its own."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > max_bytes:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece)


class LineWriter:
    """Writes lines in their order, in one thread per process. Calls `count_lost` with the number of lines that are
    dropped."""

    def __init__(self, output: Output, count_lost: Callable[[int], None]) -> None:
        self._output = output
        self._count_lost = count_lost
        self._lines: deque[bytes] = deque()
        self._has_lines = Event()
        self._is_failing = False
        self._is_writing = False
        self._thread = PerProcessThread("access-log", self._write_forever)

    def start(self) -> None:
        """Starts the thread early: once memory has run out, a thread could not be started any more."""
        self._thread.start()

    def write(self, lines: list[bytes]) -> None:
        """Queues the lines. Drops those that would make the queue longer than MAX_QUEUED_LINES."""
        room = MAX_QUEUED_LINES - len(self._lines)
        self._lines.extend(lines[:room])
        if room < len(lines):
            self._count_lost(len(lines) - room)
        self._thread.start()
        self._has_lines.set()

    def reopen(self) -> None:
        self._output.reopen()

    def flush(self) -> None:
        """Waits until all lines are written, at most FLUSH_SECONDS. Called at the end of the process."""
        deadline = time.monotonic() + FLUSH_SECONDS
        self._has_lines.set()
        while (self._lines or self._is_writing) and time.monotonic() < deadline:
            time.sleep(0.005)

    def _write_forever(self) -> None:
        while True:
            self._has_lines.wait()
            self._has_lines.clear()
            self._is_writing = True
            self._write_queued()
            self._is_writing = False

    def _write_queued(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            run_in_native_thread(lambda: self._output.write(lines))
        except Exception as error:
            # More than OSError: the failure to start a native thread, for example, must not end this thread.
            self._count_lost(len(lines))
            if not self._is_failing:
                log.error("the access log can't be written: %s", getattr(error, "strerror", None) or error)
            self._is_failing = True
        else:
            self._is_failing = False
