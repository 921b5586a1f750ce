"""Fair shares of a worker's time: a greenlet that never has to wait lets the others run every few milliseconds.

gevent switches greenlets only where one of them waits. A loop whose next bytes have always arrived (a flood of small
chunks, pipelined requests, interim responses without end) never waits, and would hold the whole worker.
"""

from __future__ import annotations

import time

from gevent import get_hub, getcurrent
from gevent.monkey import is_module_patched

SLICE_SECONDS = 0.002


class TimeSlice:
    """How long the current greenlet has run. It is measured from call to call, as a hook in each switch would cost all
    requests: a greenlet that has waited in between may let the others run once more than it had to."""

    def __init__(self) -> None:
        self._greenlet: object = None
        self._began = 0.0

    def yield_if_due(self) -> None:
        """Lets other greenlets run if the current one has gone on for longer than `SLICE_SECONDS`."""
        current, now = getcurrent(), time.monotonic()
        if current is not self._greenlet:
            # Another greenlet has been here since, so the current one has not gone on alone.
            self._greenlet, self._began = current, now
        elif now - self._began > SLICE_SECONDS:
            let_others_run()
            self._greenlet, self._began = current, time.monotonic()

    def restart(self) -> None:
        """The current greenlet has just waited."""
        self._greenlet, self._began = getcurrent(), time.monotonic()


def let_others_run() -> None:
    """Lets the greenlets run that can, those that wait for sockets too.

    After `sleep(0)` gevent looks at sockets when it has run up to 50 callbacks, each of which is a whole slice of one
    that yields in the same way: with three of them, others waited 0.4 s for each byte. Timers come after sockets."""
    if is_module_patched("time"):
        hub = get_hub()
        hub.wait(hub.loop.timer(0))
    else:
        time.sleep(0)


_slice = TimeSlice()
yield_if_due = _slice.yield_if_due
restart_slice = _slice.restart
