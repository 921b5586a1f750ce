"""Asks targets at intervals if they are well, where a service has a `health.path`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import requests

from gateway.config import ServiceSettings
from gateway.errors import Overloaded, StreamAborted, UpstreamError, describe
from gateway.proxy.balancer import TargetState
from gateway.proxy.session import ServiceSession
from gateway.system.threads import PerProcessThread, TaskGroup
from gateway.url_redaction import masked_address

CONCURRENT_CHECKS = 8
# Between two looks at what is due.
TICK_SECONDS = 0.2

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Checked:
    """A target that is asked. `in_a_row` counts answers that speak against what it is taken for; `has_passed`: a check
    has passed since this worker started."""

    service: str
    settings: ServiceSettings
    state: TargetState
    session: ServiceSession
    due_at: float = 0.0
    in_a_row: int = 0
    has_passed: bool = False

    def learn(self, is_healthy: bool) -> bool:
        """Whether the answer changes what the target is taken for."""
        self.has_passed = self.has_passed or is_healthy
        if is_healthy == self.state.is_healthy:
            self.in_a_row = 0
            self.state.is_health_known = True
            return False
        self.in_a_row += 1
        health = self.settings.health
        if self.in_a_row < (health.healthy_after if is_healthy else health.unhealthy_after):
            return False
        self.in_a_row, self.state.is_healthy, self.state.is_health_known = 0, is_healthy, True
        return True


class HealthChecks:
    """One thread of the worker for all services. `clock` is monotonic seconds, `chance` gives numbers from 0 to 1."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self._checked: list[Checked] = []
        self._thread = PerProcessThread("health checks", self._keep_asking)

    def add(self, service: str, settings: ServiceSettings, states: Sequence[TargetState]) -> None:
        """Has a service's targets asked, once it is started."""
        health = settings.health
        patience = {
            "connect_timeout_seconds": health.timeout_seconds,
            "read_timeout_seconds": health.timeout_seconds,
            "head_timeout_seconds": health.timeout_seconds,
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
        checks = TaskGroup(CONCURRENT_CHECKS)
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
        result = check(one)
        if result is None:
            return
        if result.passed:
            one.state.breaker.recovered(began)
        had_passed = one.has_passed
        if not one.learn(result.passed):
            return
        url = one.state.target.url
        if result.passed:
            log.warning("%s: %s is well again", one.service, url)
        elif had_passed:
            log.warning("%s: %s does not answer its health check any more as it should: %s", one.service, url, result)
        else:
            text = "%s: %s does not answer its health check as it should, and has never since this worker started: %s"
            log.warning(text, one.service, url, result)


@dataclass(frozen=True, slots=True)
class Result:
    """What was asked, and what came of it: the status or the error."""

    passed: bool
    asked: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.asked}: {self.outcome}"


def check(one: Checked) -> Result | None:
    """Whether the target answers with a status below 400 in time; None where that can't be asked."""
    health, target = one.settings.health, one.state.target
    url = target.url + (health.path or "")
    asked = (
        f"GET {target.base_path}{masked_address(health.path or '')} with Host {one.settings.host or target.authority}"
    )
    try:
        with one.session.get(
            url, headers={"User-Agent": "gateway"}, allow_redirects=False, stream=True, timeout=health.timeout_seconds
        ) as answer:
            return Result(answer.status_code < 400, asked, f"status {answer.status_code}")
    except Overloaded:
        # It is this process that has no descriptor left, or no thread.
        return None
    except (UpstreamError, StreamAborted, requests.RequestException) as error:
        cause = f" ({describe(error.__cause__)})" if error.__cause__ else ""
        return Result(False, asked, f"{error}{cause}")
    except Exception as error:
        log.exception("a health check failed")
        return Result(False, asked, describe(error))
