"""Notices that a target whose breaker is open works again, so that its clients need not be refused until one may try.

A background thread of each worker looks at all breakers a few times a second. While one is open:

1. It tries to connect. A target that took no connection and then takes one is back, and the breaker is closed. Where
   the first attempt succeeds, the target fails by something else than connections (it hangs, resets, or fails in TLS):
   only a probe or a passed health check can tell when that is over.
2. It reads from Redis whether another worker has seen the target work since.

When a breaker has closed, by whichever way, it is published in Redis for the other workers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from gateway.config import ServiceSettings
from gateway.proxy.balancer import TargetState
from gateway.proxy.shared_recoveries import SharedRecoveries
from gateway.redis.client import FAILURES
from gateway.system.resource_exhaustion import is_exhaustion
from gateway.system.tcp import connect_to_any
from gateway.system.threads import PerProcessThread, TaskGroup

# Between two looks, while a breaker is open and while none is.
OPEN_LOOK_SECONDS, LOOK_SECONDS = 0.1, 0.25
# Between two attempts to connect, soon after the breaker has opened and later on.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 0.5
PAUSE_GROWTH = 1.05
# A SYN that is lost is sent again after one second; a new attempt is as good.
CONNECT_SECONDS = 1.0
CONCURRENT_ATTEMPTS = 64
READ_SECONDS = 0.25
# After Redis has failed.
REDIS_PAUSE_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class WatchedTarget:
    """A target and what is known of its outage. `opened_at`: which opening of the breaker was seen at the last look,
    None while it was closed."""

    service: str
    state: TargetState
    connect_seconds: float
    opened_at: float | None = None
    # Whether an attempt to connect has failed in this outage.
    is_unreachable: bool = False
    # Whether connections can tell no more about this opening.
    is_settled: bool = False
    next_attempt_at: float = 0.0
    pause_seconds: float = FIRST_PAUSE_SECONDS

    def note_opening(self, opened_at: float) -> None:
        if self.opened_at is None:
            self.is_unreachable = False
            self.pause_seconds = FIRST_PAUSE_SECONDS
            self.next_attempt_at = 0.0
        self.opened_at, self.is_settled = opened_at, False


class RecoveryMonitor:
    """`clock` is monotonic seconds; `shared` is None without Redis."""

    def __init__(self, clock: Callable[[], float], shared: SharedRecoveries | None) -> None:
        self._clock = clock
        self._shared = shared
        self._watched: list[WatchedTarget] = []
        self._attempts = TaskGroup(CONCURRENT_ATTEMPTS)
        self._last_look = clock()
        self._next_read_at = 0.0
        self._thread = PerProcessThread("recovery of targets", self._keep_looking)

    def add(self, service: str, settings: ServiceSettings, states: Iterable[TargetState]) -> None:
        """Has a service's targets watched, once it is started."""
        if settings.breaker.failures:
            seconds = min(CONNECT_SECONDS, settings.connect_timeout_seconds)
            self._watched += [WatchedTarget(service, state, seconds) for state in states]

    def start(self) -> None:
        """Starts the thread of this process, once; not before it is forked."""
        if self._watched:
            self._thread.start()

    def _keep_looking(self) -> None:
        while True:
            is_any_open = True
            try:
                is_any_open = self.look()
            except Exception:
                log.exception("targets are not watched for their recovery")
            time.sleep(OPEN_LOOK_SECONDS if is_any_open else LOOK_SECONDS)

    def look(self) -> bool:
        """Looks at all breakers, and begins what is to be done about those that are open; whether there are any."""
        now = self._clock()
        since_last_look, self._last_look = now - self._last_look, now
        outages = []
        for one in self._watched:
            opened_at = one.state.breaker.opened_at
            if opened_at is None:
                if one.opened_at is not None:
                    # By a request or a health check of this worker.
                    self._end(one, since_last_look)
                continue
            outages.append(one)
            if opened_at != one.opened_at:
                one.note_opening(opened_at)
            if not one.is_settled and one.next_attempt_at <= now:
                # Where the attempt can't even be begun, the next one is.
                one.next_attempt_at = now + one.connect_seconds + one.pause_seconds
                self._attempts.begin([partial(self._connect, one)])
        if outages and self._next_read_at <= now:
            self._next_read_at = now + READ_SECONDS
            self._read(outages)
        return bool(outages)

    def _connect(self, one: WatchedTarget) -> None:
        began, target = self._clock(), one.state.target
        try:
            connect_to_any(target.host, target.port, time.monotonic() + one.connect_seconds).close()
        except OSError as error:
            if not is_exhaustion(error):
                one.is_unreachable = True
        else:
            if not one.is_unreachable:
                one.is_settled = True
            elif one.state.breaker.recovered(began):
                self._end(one, self._clock() - began)
        one.pause_seconds = min(LONGEST_PAUSE_SECONDS, PAUSE_GROWTH * one.pause_seconds)
        one.next_attempt_at = self._clock() + one.pause_seconds

    def _end(self, one: WatchedTarget, seconds_ago: float) -> None:
        """The breaker has closed, as this worker saw the target work, at the most so long ago."""
        self._note_end(one)
        if self._shared is not None:
            try:
                self._shared.publish(one.service, one.state.target, seconds_ago)
            except FAILURES:
                """The other workers find out by themselves."""

    def _read(self, outages: Iterable[WatchedTarget]) -> None:
        if self._shared is None:
            return
        try:
            for one in outages:
                seconds_ago = self._shared.seconds_since(one.service, one.state.target)
                if seconds_ago is not None and one.state.breaker.recovered(self._clock() - seconds_ago):
                    self._note_end(one)
        except FAILURES:
            self._next_read_at = self._clock() + REDIS_PAUSE_SECONDS

    def _note_end(self, one: WatchedTarget) -> None:
        one.opened_at = None
        log.warning("%s: requests go to %s again", one.service, one.state.target.url)
