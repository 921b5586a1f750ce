"""What is done about finished requests, aside from them: a request leaves a note, and all else waits for nobody.

Notes are gathered for a moment, so that the log is written, and metrics are kept, for many at once.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Event, Lock

from gateway.context import Exchange
from gateway.system.threads import PerProcessThread

GATHER_SECONDS = 0.1
# How many notes are dealt with before requests have their turn.
AT_ONCE = 100

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RequestRecord:
    """A finished request. `ended` is monotonic seconds, `now` seconds since 1970."""

    exchange: Exchange
    status: int
    sent_bytes: int
    now: float
    ended: float

    @property
    def seconds(self) -> float:
        """From its head to the last byte of its answer."""
        return self.ended - self.exchange.started


Reader = Callable[[Sequence[RequestRecord]], None]


class RequestRecords:
    """Has `readers` read them, in their order, in a thread of each process. `at_exit` is called at the end of each
    process that left any."""

    def __init__(self, readers: Iterable[Reader], at_exit: Callable[[], None]) -> None:
        self.readers = list(readers)
        self._unread: deque[RequestRecord] = deque()
        self._something = Event()
        self._is_told = False
        # At the end two may read.
        self._reading = Lock()
        self._thread = PerProcessThread("notes", self._read_on, at_exit)

    def start(self) -> None:
        """Begins. Where memory runs out, it would be too late to."""
        self._thread.start()

    def leave(self, note: RequestRecord) -> None:
        """Takes it; no more than that."""
        self._unread.append(note)
        if not self._is_told:
            # First of all: where no thread can be had, the next note tries again.
            self._thread.start()
            self._is_told = True
            self._something.set()

    def finish(self) -> None:
        """Has what is left read, at the end of the process."""
        while self._unread:
            self._read()
        with self._reading:
            """The thread has read what it was reading."""

    def _read_on(self) -> None:
        while True:
            self._something.wait()
            time.sleep(GATHER_SECONDS)
            self._something.clear()
            self._is_told = False
            while self._unread:
                self._read()
                time.sleep(0)

    def _read(self) -> None:
        with self._reading:
            unread = self._unread
            taken = [unread.popleft() for _ in range(min(AT_ONCE, len(unread)))]
            for read in self.readers:
                try:
                    read(taken)
                except Exception:
                    log.exception("what is told of requests is incomplete")
