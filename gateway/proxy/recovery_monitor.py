"""Closes the breaker of a target as soon as the target works again, so that no client has to be the first to try.

A background thread of each worker examines all breakers a few times a second. While a breaker is open, the thread does
two things:

1. It connects to the target. If connections were refused before and one is accepted now, the target is back and the
   breaker is closed. If the first connection is accepted, the target fails in another way (it hangs, resets, or fails
   in TLS), and only a probe or a passed health check can show that it works again.
2. It reads from Redis whether another worker has seen the target work.

When a connection, a probe or a health check of this worker has closed a breaker, the thread publishes the recovery in
Redis for the other workers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from gateway.config import ServiceSettings
from gateway.proxy.balancer import TargetState
from gateway.proxy.shared_recoveries import SharedRecoveries
from gateway.redis.client import FAILURES
from gateway.system.resource_exhaustion import is_exhaustion
from gateway.system.tcp import connect_to_any
from gateway.system.threads import PerProcessThread, TaskGroup

# How often breakers are examined, while any is open and while none is.
OPEN_INTERVAL_SECONDS, CLOSED_INTERVAL_SECONDS = 0.1, 0.25
# Pauses between two connection attempts: soon after the breaker has opened, and later.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 0.5
PAUSE_GROWTH = 1.05
# The system retransmits a lost SYN after one second. A new attempt also sends a SYN, so no attempt waits longer.
CONNECT_SECONDS = 1.0
CONCURRENT_ATTEMPTS = 64
READ_INTERVAL_SECONDS = 0.25
# Pause after a failure of Redis.
REDIS_PAUSE_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class MonitoredTarget:
    """A target and its current outage. `opened_at` is when the breaker opened, as the latest examination found it; None
    if the breaker was closed then."""

    service: str
    state: TargetState
    connect_seconds: float
    opened_at: float | None = None
    # Whether a connection attempt has failed in this outage.
    was_unreachable: bool = False
    # Whether the target accepts connections, so that further attempts would show nothing.
    is_reachable: bool = False
    next_attempt_at: float = 0.0
    pause_seconds: float = FIRST_PAUSE_SECONDS

    def record_opening(self, opened_at: float) -> None:
        if self.opened_at is None:
            self.was_unreachable = False
            self.pause_seconds = FIRST_PAUSE_SECONDS
            self.next_attempt_at = 0.0
        self.opened_at, self.is_reachable = opened_at, False


class RecoveryMonitor:
    """Monitors the targets of all services in one thread of this worker. `clock` is monotonic seconds. `shared` is None
    without Redis."""

    def __init__(self, clock: Callable[[], float], shared: SharedRecoveries | None) -> None:
        self._clock = clock
        self._shared = shared
        self._targets: list[MonitoredTarget] = []
        self._attempts = TaskGroup(CONCURRENT_ATTEMPTS)
        self._last_examined = clock()
        self._next_read_at = 0.0
        self._thread = PerProcessThread("recovery of targets", self._run)

    def add(self, service: str, settings: ServiceSettings, states: Iterable[TargetState]) -> None:
        """Adds the targets of a service. To be called before `start`."""
        if settings.breaker.failures:
            seconds = min(CONNECT_SECONDS, settings.connect_timeout_seconds)
            self._targets += [MonitoredTarget(service, state, seconds) for state in states]

    def start(self) -> None:
        """Starts the thread of this process, once. Not to be called before the process is forked."""
        if self._targets:
            self._thread.start()

    def _run(self) -> None:
        while True:
            is_any_open = True
            try:
                is_any_open = self.examine()
            except Exception:
                log.exception("the recovery of targets can't be monitored")
            time.sleep(OPEN_INTERVAL_SECONDS if is_any_open else CLOSED_INTERVAL_SECONDS)

    def examine(self) -> bool:
        """Examines all breakers. For the open ones, starts the connection attempts that are due and reads recoveries
        from Redis. Returns whether any breaker is open."""
        now = self._clock()
        since_last, self._last_examined = now - self._last_examined, now
        outages = []
        for target in self._targets:
            opened_at = target.state.breaker.opened_at
            if opened_at is None:
                if target.opened_at is not None:
                    # A request or a health check of this worker has closed the breaker.
                    self._end_outage(target, since_last)
                continue
            outages.append(target)
            if opened_at != target.opened_at:
                target.record_opening(opened_at)
            if not target.is_reachable and target.next_attempt_at <= now:
                # This time applies only if no thread can be started for the attempt. A completed attempt sets its own.
                target.next_attempt_at = now + target.connect_seconds + target.pause_seconds
                self._attempts.begin([partial(self._try_to_connect, target)])
        if outages and self._next_read_at <= now:
            self._next_read_at = now + READ_INTERVAL_SECONDS
            self._read_shared(outages)
        return bool(outages)

    def _try_to_connect(self, monitored: MonitoredTarget) -> None:
        began, target = self._clock(), monitored.state.target
        try:
            connect_to_any(target.host, target.port, time.monotonic() + monitored.connect_seconds).close()
        except OSError as error:
            if not is_exhaustion(error):
                monitored.was_unreachable = True
        else:
            if not monitored.was_unreachable:
                monitored.is_reachable = True
            elif monitored.state.breaker.recovered(began):
                self._end_outage(monitored, self._clock() - began)
        monitored.pause_seconds = min(LONGEST_PAUSE_SECONDS, PAUSE_GROWTH * monitored.pause_seconds)
        monitored.next_attempt_at = self._clock() + monitored.pause_seconds

    def _end_outage(self, target: MonitoredTarget, seconds_ago: float) -> None:
        """Logs and publishes that this worker has seen the target work, at most `seconds_ago`, and closed its
        breaker."""
        self._record_recovery(target)
        if self._shared is not None:
            # If Redis fails, the other workers rely on their own monitors.
            with suppress(*FAILURES):
                self._shared.publish(target.service, target.state.target, seconds_ago)

    def _read_shared(self, outages: Iterable[MonitoredTarget]) -> None:
        if self._shared is None:
            return
        try:
            for target in outages:
                seconds_ago = self._shared.seconds_since(target.service, target.state.target)
                if seconds_ago is not None and target.state.breaker.recovered(self._clock() - seconds_ago):
                    self._record_recovery(target)
        except FAILURES:
            self._next_read_at = self._clock() + REDIS_PAUSE_SECONDS

    def _record_recovery(self, target: MonitoredTarget) -> None:
        target.opened_at = None
        log.warning("%s: requests go to %s again", target.service, target.state.target.url)
