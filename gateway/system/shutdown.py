"""How the end of the gateway is told to who must know of it before: the readiness check, and streams without an end.

The master announces its own end to all workers, before it asks them to end; a worker tells its own end to the streams
that it is in. Both work from a signal's handler.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from itertools import count

from gateway.system.flags import SharedFlag

# Streams of events are ended in so many groups, one after the other.
GROUPS = 16
# Over how long, where the configuration gives no longer time.
SPREAD_SECONDS = 3.0
# What a stream has for the rest of the event that it is in.
LAST_EVENT_SECONDS = 1.0


class StreamEnd:
    """The end of one group of streams, for whoever waits for something else at the moment: a descriptor that becomes
    readable then, and stays so."""

    def __init__(self) -> None:
        self._reader: int | None = None
        self._writer: int | None = None
        self.is_told = False

    def open(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    @property
    def descriptor(self) -> int | None:
        """None where this process is no worker."""
        return self._reader

    def tell(self) -> None:
        self.is_told = True
        if self._writer is not None:
            with suppress(BlockingIOError):
                os.write(self._writer, b"!")


class WorkerShutdown:
    """Ends this worker's streams of events, in groups: their clients would all come back in the same second."""

    def __init__(self) -> None:
        self._groups = [StreamEnd() for _ in range(GROUPS)]
        self._joined = count()
        self._is_worker = False

    def open(self) -> None:
        """To be called in the worker, after it was forked."""
        self._is_worker = True
        for group in self._groups:
            group.open()

    def join(self) -> StreamEnd:
        """The group of a new stream; while groups are being ended, one of those that go on longest."""
        left = [group for group in self._groups if not group.is_told] or self._groups[-1:]
        return left[next(self._joined) % len(left)]

    def tell(self, share: float = 1.0) -> None:
        """Ends this share of the groups."""
        for group in self._groups[: round(share * GROUPS)]:
            if not group.is_told:
                group.tell()

    def retire(self) -> None:
        """Has this worker finish what it does and end, so that its master starts another."""
        if self._is_worker:
            os.kill(os.getpid(), signal.SIGTERM)


def share_to_end(now: float, begun: float, deadline: float, told_at: float | None, drain_seconds: float) -> float:
    """The share of streams that should have been ended by `now`, where a worker has from `begun` to `deadline`.

    `told_at` is when the end of the whole gateway was announced: its streams end over the drain time. Where only this
    worker ends (None), others serve the clients that come back, and its streams go on for as long as they may. All are
    monotonic seconds."""
    last = deadline - min(LAST_EVENT_SECONDS, (deadline - begun) / 4)
    spread = min(SPREAD_SECONDS, (last - begun) / 2)
    first = last - spread
    if told_at is not None:
        first, last = min(first, told_at), min(last, told_at + (drain_seconds or spread))
    if now < first:
        return 0.0
    # The first group goes at once, where it may be the only one that has any streams.
    return 1.0 if now >= last else (now - first) / (last - first) * (GROUPS - 1) / GROUPS + 1 / GROUPS


# Whether the whole gateway is about to end, and not just one of its workers.
GATEWAY_SHUTDOWN = SharedFlag()
WORKER_SHUTDOWN = WorkerShutdown()
