"""The queue of finished requests. A request only appends its record; a background thread does all the work on records.

The thread waits a moment after the first record, so that the consumers handle many records at once."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Event, Lock

from gateway.context import Exchange
from gateway.system.threads import PerProcessThread

BATCH_DELAY_SECONDS = 0.1
# After a batch of this many records, other greenlets get their turn.
BATCH_RECORDS = 100

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RequestRecord:
    """A finished request. `ended_at` is in seconds since 1970, `ended` in monotonic seconds."""

    exchange: Exchange
    status: int
    sent_bytes: int
    ended_at: float
    ended: float

    @property
    def seconds(self) -> float:
        """The time from the arrival of the request's head to the last byte of the response."""
        return self.ended - self.exchange.started


Consumer = Callable[[Sequence[RequestRecord]], None]


class RecordQueue:
    """Passes records to each of `consumers` in turn, in one thread per process. `at_exit` is called at the end of each
    process that queued a record."""

    def __init__(self, consumers: Iterable[Consumer], at_exit: Callable[[], None]) -> None:
        self.consumers = list(consumers)
        self._records: deque[RequestRecord] = deque()
        self._has_records = Event()
        # Whether `_has_records` is set: each request checks this flag, which costs less than checking the event.
        self._is_notified = False
        # Held during a batch, as `drain` consumes in the thread of its caller.
        self._consuming = Lock()
        self._thread = PerProcessThread("request-records", self._consume_forever, at_exit)

    def start(self) -> None:
        """Starts the thread early: once memory has run out, a thread could not be started any more."""
        self._thread.start()

    def enqueue(self, record: RequestRecord) -> None:
        self._records.append(record)
        if not self._is_notified:
            # Started before the flag is set: if no thread can be started now, the next record tries again.
            self._thread.start()
            self._is_notified = True
            self._has_records.set()

    def drain(self) -> None:
        """Consumes all queued records in the calling thread, and waits for the batch that the background thread is
        consuming. Called at the end of the process."""
        while self._records:
            self._consume_batch()
        with self._consuming:
            """The background thread has finished its batch."""

    def _consume_forever(self) -> None:
        while True:
            self._has_records.wait()
            time.sleep(BATCH_DELAY_SECONDS)
            self._has_records.clear()
            self._is_notified = False
            while self._records:
                self._consume_batch()
                time.sleep(0)

    def _consume_batch(self) -> None:
        with self._consuming:
            batch = [self._records.popleft() for _ in range(min(BATCH_RECORDS, len(self._records)))]
            for consume in self.consumers:
                try:
                    consume(batch)
                except Exception:
                    log.exception(
                        "telemetry: %s requests are missing in the log, the metrics or the traces", len(batch)
                    )
