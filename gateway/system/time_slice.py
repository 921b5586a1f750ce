"""Fair shares of a worker's time: a greenlet that never has to wait lets the others run every few milliseconds.

gevent switches greenlets only where one of them waits. A loop whose next bytes have always arrived (a flood of small
chunks, pipelined requests, interim responses without end) never waits, and would hold the whole worker.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

from gevent import get_hub, getcurrent
from gevent.hub import Waiter
from gevent.monkey import is_module_patched

SLICE_SECONDS = 0.001


class TimeSlice:
    """How long the current greenlet has run. It is measured from call to call, as a hook in each switch would cost all
    requests: a greenlet that has waited in between may let the others run once more than it had to.

    Greenlets that have used up their slice form a queue. The loop resumes one of them each time that it has served
    everybody else whose data has arrived: however many they are, they hold up the others by one slice. (`sleep(0)`
    would not do: gevent runs fifty of such greenlets before it looks for data.)"""

    def __init__(self) -> None:
        self._greenlet: object = None
        self._began = 0.0
        self._queue: deque[Waiter] = deque()
        self._timer: Any = None

    def yield_if_due(self) -> None:
        """Lets other greenlets run if the current one has gone on for longer than `SLICE_SECONDS`."""
        now = time.monotonic()
        if now - self._began < SLICE_SECONDS:
            # Whoever began the slice: nobody has run for long.
            return
        current = getcurrent()
        if current is self._greenlet:
            self.yield_now()
        else:
            # Another greenlet has been here since, so the current one has not gone on alone.
            self._greenlet, self._began = current, now

    def yield_now(self) -> None:
        """Lets other greenlets run in any case: for one whose turn is less than a slice."""
        if is_module_patched("time") and get_hub().main_hub:
            # In a thread of the system's own, there is nobody to let run.
            self._wait_in_queue()
        self.restart()

    def restart(self) -> None:
        """The current greenlet has just waited."""
        self._greenlet, self._began = None, time.monotonic()

    def forget(self) -> None:
        """After a fork: the loop and those that wait in it are the parent's."""
        self._queue.clear()
        self._timer = None

    def _wait_in_queue(self) -> None:
        if self._timer is None:
            self._timer = get_hub().loop.timer(0)
        waiter = Waiter()
        self._queue.append(waiter)
        if len(self._queue) == 1:
            self._timer.start(self._resume_next, update=False)
        try:
            waiter.get()
        except BaseException:
            # The greenlet was ended while it waited.
            if waiter in self._queue:
                self._queue.remove(waiter)
            raise

    def _resume_next(self) -> None:
        """Runs in the hub."""
        self._timer.stop()
        if not self._queue:
            return
        waiter = self._queue.popleft()
        if self._queue:
            self._timer.start(self._resume_next, update=False)
        waiter.switch(None)


_slice = TimeSlice()
yield_if_due = _slice.yield_if_due
yield_now = _slice.yield_now
restart_slice = _slice.restart
os.register_at_fork(after_in_child=_slice.forget)
