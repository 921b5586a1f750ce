"""Announces a shutdown early to the readiness check, and to event streams, which would never end by themselves.

The master sets `GATEWAY_SHUTDOWN` for all workers before it signals them. A worker ends its event streams by
`WORKER_SHUTDOWN`. `GATEWAY_SHUTDOWN.set` and `WORKER_SHUTDOWN.retire` may be called in a signal handler."""

from __future__ import annotations

import os
import signal
from itertools import count

from gevent.event import Event

from gateway.system.shared_flag import SharedFlag

# Event streams are divided into this many groups, which end one after the other.
GROUPS = 16
# The groups end over this time, or over server.drain_seconds if that is longer.
SPREAD_SECONDS = 3.0
# The time that a stream has to finish its current event.
LAST_EVENT_SECONDS = 1.0


class WorkerShutdown:
    """Ends this worker's event streams in groups. If all ended at once, all their clients would reconnect in the same
    second."""

    def __init__(self) -> None:
        self._groups = [Event() for _ in range(GROUPS)]
        self._joined = count()
        self._is_worker = False

    def open(self) -> None:
        """Marks this process as a worker. Called after the fork."""
        self._is_worker = True

    def join(self) -> Event:
        """Returns the group of a new stream: an event that is set when the group's streams have to end. During a
        shutdown, it is one of the groups that have not ended."""
        remaining = [group for group in self._groups if not group.is_set()] or self._groups[-1:]
        return remaining[next(self._joined) % len(remaining)]

    def end_streams(self, share: float = 1.0) -> None:
        """Ends this share of all groups; groups that have ended already count."""
        for group in self._groups[: round(share * GROUPS)]:
            group.set()

    def retire(self) -> None:
        """Begins a graceful shutdown of this worker; the master starts another one."""
        if self._is_worker:
            os.kill(os.getpid(), signal.SIGTERM)


def share_to_end(
    now: float, started: float, deadline: float, gateway_shutdown_at: float | None, drain_seconds: float
) -> float:
    """The share of event streams that should have ended by `now`, for a worker that shuts down from `started` to
    `deadline`.

    If the whole gateway shuts down, since `gateway_shutdown_at`, streams end over the drain time. If only this worker
    does (None), streams continue for as long as possible: other workers serve clients that reconnect. All times are
    monotonic seconds."""
    last = deadline - min(LAST_EVENT_SECONDS, (deadline - started) / 4)
    spread = min(SPREAD_SECONDS, (last - started) / 2)
    first = last - spread
    if gateway_shutdown_at is not None:
        first = min(first, gateway_shutdown_at)
        last = min(last, gateway_shutdown_at + (drain_seconds or spread))
    if now < first:
        return 0.0
    # The first group ends at once: if there are few streams, it may be the only group that has any.
    return 1.0 if now >= last else (now - first) / (last - first) * (GROUPS - 1) / GROUPS + 1 / GROUPS


# Set when the whole gateway shuts down, not just one of its workers.
GATEWAY_SHUTDOWN = SharedFlag()
WORKER_SHUTDOWN = WorkerShutdown()
