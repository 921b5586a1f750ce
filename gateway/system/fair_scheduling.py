"""Shares a worker's time fairly: a greenlet that never waits lets others run every millisecond.

gevent switches greenlets only when one waits. A loop whose next bytes have always arrived already (a flood of small
chunks, pipelined requests, endless interim responses) never waits, and would hold up the whole worker."""

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
    """Measures how long the current greenlet has run, from call to call: a hook in every switch would slow down all
    requests. A greenlet that has waited between two calls may yield once more than necessary.

    Greenlets that have used up their slice queue. In each round of the loop, gevent serves all connections whose data
    has arrived, then one greenlet of the queue: however long the queue is, it delays the others by one slice.
    (`sleep(0)` would not do: gevent runs fifty such greenlets before it checks for data.)"""

    def __init__(self) -> None:
        self._greenlet: object = None
        self._began = 0.0
        self._queue: deque[Waiter] = deque()
        self._timer: Any = None

    def yield_if_due(self) -> None:
        """Yields to other greenlets if the current one has run for longer than `SLICE_SECONDS`."""
        now = time.monotonic()
        if now - self._began < SLICE_SECONDS:
            # The current slice is not over, so no greenlet has run for longer than a slice.
            return
        current = getcurrent()
        if current is self._greenlet:
            self.yield_now()
        else:
            # The last call came from another greenlet, so the current one has waited in the meantime.
            self._greenlet, self._began = current, now

    def yield_now(self) -> None:
        """Yields to other greenlets, however short the current one has run."""
        if is_module_patched("time") and get_hub().main_hub:
            # Only gevent's main thread has other greenlets to yield to; a native thread has none.
            self._wait_in_queue()
        self.restart()

    def restart(self) -> None:
        """Starts a new slice; called when the current greenlet has just waited."""
        self._greenlet, self._began = None, time.monotonic()

    def forget(self) -> None:
        """Forgets the queue after a fork: the loop and its waiting greenlets belong to the parent."""
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
            # The greenlet was killed while it waited.
            if waiter in self._queue:
                self._queue.remove(waiter)
            raise

    def _resume_next(self) -> None:
        """Resumes the first greenlet of the queue. Called by the hub."""
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
