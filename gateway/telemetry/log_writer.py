"""Lines written aside: whoever writes them waits for nobody.

A reader of standard output that is stuck must not stop the gateway: what it does not take in time is lost, and counted.
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

MOST_WAITING = 20_000
LAST_WRITE_SECONDS = 2.0
# Between two looks whether a pipe's reader has taken something, or another process is done with its line.
WAIT_SECONDS = 0.1
FILE_BYTES = 64 * 1024

log = logging.getLogger(__name__)


class Output:
    """Standard output, or a file that is appended to and can be opened anew after it was moved away."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._is_moved = False

    @property
    def is_terminal(self) -> bool:
        return self._path is None and sys.stdout.isatty()

    def reopen(self) -> None:
        """Has the next write open the file by its name. It is not closed here: a write under way would go on into
        whatever gets its descriptor, which may be a client's connection."""
        self._is_moved = True

    def write(self, lines: list[bytes]) -> None:
        """Whole lines at a time. Raises OSError."""
        descriptor = self._opened()
        kind = os.fstat(descriptor).st_mode
        for piece in joined(lines, FILE_BYTES if stat.S_ISREG(kind) else PIPE_BYTES):
            if stat.S_ISFIFO(kind):
                write_message(descriptor, piece, lambda: can_write(descriptor, WAIT_SECONDS) or True)
                continue
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(descriptor, rest) :]

    def _opened(self) -> int:
        if self._is_moved:
            self._is_moved = False
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


def joined(lines: list[bytes], most: int) -> Iterator[bytes]:
    """The lines in pieces of at most so many bytes, save where a single one is longer."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > most:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece)


class LineWriter:
    """Writes lines in their order, in a thread of each process. `lost` is told how many could not be written."""

    def __init__(self, output: Output, lost: Callable[[int], None]) -> None:
        self._output = output
        self._lost = lost
        self._waiting: deque[bytes] = deque()
        self._something = Event()
        self._is_failing = False
        self._is_writing = False
        self._thread = PerProcessThread("lines", self._write_on)

    def start(self) -> None:
        """Does so from now on. Where memory runs out, it would be too late to begin."""
        self._thread.start()

    def write(self, lines: list[bytes]) -> None:
        """Takes them; no more than that."""
        room = MOST_WAITING - len(self._waiting)
        self._waiting.extend(lines[:room])
        if room < len(lines):
            self._lost(len(lines) - room)
        self._thread.start()
        self._something.set()

    def reopen(self) -> None:
        self._output.reopen()

    def _write_on(self) -> None:
        while True:
            self._something.wait()
            self._something.clear()
            self._is_writing = True
            self._write_all()
            self._is_writing = False

    def finish(self) -> None:
        """Waits until all is written, at the end of the process, and not long for a reader that is stuck."""
        deadline = time.monotonic() + LAST_WRITE_SECONDS
        self._something.set()
        while (self._waiting or self._is_writing) and time.monotonic() < deadline:
            time.sleep(0.005)

    def _write_all(self) -> None:
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not lines:
            return
        try:
            run_in_native_thread(lambda: self._output.write(lines))
        except Exception as error:
            # Also that there is no thread to write in: this one must go on.
            self._lost(len(lines))
            if not self._is_failing:
                log.error("the access log can't be written: %s", getattr(error, "strerror", None) or error)
            self._is_failing = True
        else:
            self._is_failing = False
