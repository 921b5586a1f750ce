"""Asks targets at intervals if they are well, where a service has a `health.path`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import requests

from gateway.config import ServiceSettings
from gateway.errors import Overloaded, StreamAborted, UpstreamError
from gateway.proxy.balancer import TargetState
from gateway.proxy.session import ServiceSession
from gateway.system.threads import OwnThread, Together

CONCURRENT_CHECKS = 8
# Between two looks at what is due.
TICK_SECONDS = 0.2

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Checked:
    """A target that is asked. `in_a_row` counts answers that speak against what it is taken for."""

    service: str
    settings: ServiceSettings
    state: TargetState
    session: ServiceSession
    due_at: float = 0.0
    in_a_row: int = field(default=0)

    def learn(self, is_well: bool) -> bool:
        """Whether the answer changes what the target is taken for."""
        if is_well == self.state.is_well:
            self.in_a_row = 0
            return False
        self.in_a_row += 1
        health = self.settings.health
        if self.in_a_row < (health.healthy_after if is_well else health.unhealthy_after):
            return False
        self.in_a_row, self.state.is_well = 0, is_well
        return True


class HealthChecks:
    """One thread of the worker for all services. `clock` is monotonic seconds, `chance` gives numbers from 0 to 1."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self._checked: list[Checked] = []
        self._thread = OwnThread("health checks", self._keep_asking)

    def add(self, service: str, settings: ServiceSettings, states: Sequence[TargetState]) -> None:
        """Has a service's targets asked, once it is started."""
        health = settings.health
        patience = {
            "connect_timeout_seconds": health.timeout_seconds,
            "read_timeout_seconds": health.timeout_seconds,
            # Each answer by a new connection: that one can be made is part of being well.
            "keepalive_connections": 0,
        }
        session = ServiceSession(settings.model_copy(update=patience), service)
        self._checked += [Checked(service, settings, state, session) for state in states]

    def start(self) -> None:
        """Starts the thread of this process, once; not before it is forked."""
        if self._checked:
            self._thread.start()

    def _keep_asking(self) -> None:
        checks = Together(CONCURRENT_CHECKS)
        while True:
            now = self._clock()
            for one in self._checked:
                if one.due_at <= now:
                    # Not all at once, and not all workers at the same moment.
                    health = one.settings.health
                    one.due_at = now + health.interval_seconds * (0.8 + 0.4 * self._chance())
                    checks.begin([partial(self._ask, one)])
            time.sleep(TICK_SECONDS)

    def _ask(self, one: Checked) -> None:
        began = self._clock()
        is_well = is_answered_well(one)
        if is_well:
            one.state.breaker.recovered(began)
        if is_well is not None and one.learn(is_well):
            text = "%s: %s is well again" if is_well else "%s: %s does not answer its health check as it should"
            log.warning(text, one.service, one.state.target.url)


def is_answered_well(one: Checked) -> bool | None:
    """Whether the target answers with a status below 400 in time; None where that can't be asked."""
    url = one.state.target.url + (one.settings.health.path or "")
    try:
        with one.session.get(url, headers={"User-Agent": "gateway"}, allow_redirects=False, stream=True) as answer:
            return answer.status_code < 400
    except Overloaded:
        # It is this process that has no descriptor left, or no thread.
        return None
    except (UpstreamError, StreamAborted, requests.RequestException):
        return False
    except Exception:
        log.exception("a health check failed")
        return False
