"""Active health checks: a background thread requests `health.path` of each target at intervals, if it is configured."""

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
from gateway.proxy.requests_session import ServiceSession
from gateway.system.threads import PerProcessThread, TaskGroup
from gateway.url_redaction import redact_url

CONCURRENT_CHECKS = 8
# How often the thread looks for checks that are due.
TICK_SECONDS = 0.2

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class CheckedTarget:
    """A target with a health check. `contrary_results` counts the consecutive results that contradict the target's
    current verdict. `has_passed` is whether a check has passed since this worker started."""

    service: str
    settings: ServiceSettings
    state: TargetState
    session: ServiceSession
    due_at: float = 0.0
    contrary_results: int = 0
    has_passed: bool = False

    def check(self) -> tuple[bool, str] | None:
        """Requests the health path. Returns whether the target responds in time with a status below 400, and a text for
        the log with the request and its result. Returns None if this process is out of resources, as the check then
        says nothing about the target."""
        health, target = self.settings.health, self.state.target
        url = target.url + (health.path or "")
        path = target.base_path + redact_url(health.path or "")
        request = f"GET {path} with Host {self.settings.host or target.authority}"
        try:
            with self.session.get(
                url,
                headers={"User-Agent": "gateway"},
                allow_redirects=False,
                stream=True,
                timeout=health.timeout_seconds,
            ) as response:
                return response.status_code < 400, f"{request}: status {response.status_code}"
        except Overloaded:
            return None
        except (UpstreamError, StreamAborted, requests.RequestException) as error:
            cause = f" ({describe(error.__cause__)})" if error.__cause__ else ""
            return False, f"{request}: {error}{cause}"
        except Exception as error:
            log.exception("a health check failed unexpectedly")
            return False, f"{request}: {describe(error)}"

    def update(self, passed: bool) -> bool:
        """Records a result. Returns whether it changes the target's verdict."""
        self.has_passed = self.has_passed or passed
        if passed == self.state.is_healthy:
            self.contrary_results = 0
            self.state.is_health_known = True
            return False
        self.contrary_results += 1
        health = self.settings.health
        if self.contrary_results < (health.healthy_after if passed else health.unhealthy_after):
            return False
        self.contrary_results, self.state.is_healthy, self.state.is_health_known = 0, passed, True
        return True


class HealthChecks:
    """The health checks of all services, in one thread of this worker. `clock` is monotonic seconds, `chance` returns
    numbers from 0 to 1."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self._targets: list[CheckedTarget] = []
        self._thread = PerProcessThread("health checks", self._run)

    def add(self, service: str, settings: ServiceSettings, states: Sequence[TargetState]) -> None:
        """Adds the targets of a service. To be called before `start`."""
        health = settings.health
        overrides = {
            "connect_timeout_seconds": health.timeout_seconds,
            "read_timeout_seconds": health.timeout_seconds,
            "head_timeout_seconds": health.timeout_seconds,
            # Each check opens a connection: accepting one is part of being healthy.
            "keepalive_connections": 0,
        }
        session = ServiceSession(settings.model_copy(update=overrides), service)
        self._targets += [CheckedTarget(service, settings, state, session) for state in states]

    def start(self) -> None:
        """Starts the thread of this process, once. Not to be called before the process is forked."""
        if self._targets:
            self._thread.start()

    def _run(self) -> None:
        checks = TaskGroup(CONCURRENT_CHECKS)
        while True:
            now = self._clock()
            for target in self._targets:
                if target.due_at <= now:
                    # Jitter, so that workers and targets are not all checked at the same moment.
                    interval_seconds = target.settings.health.interval_seconds
                    target.due_at = now + interval_seconds * (0.8 + 0.4 * self._chance())
                    checks.begin([partial(self._check, target)])
            time.sleep(TICK_SECONDS)

    def _check(self, target: CheckedTarget) -> None:
        began = self._clock()
        result = target.check()
        if result is None:
            return
        passed, description = result
        if passed:
            target.state.breaker.recovered(began)
        had_passed = target.has_passed
        if not target.update(passed):
            return
        url = target.state.target.url
        if passed:
            log.warning("%s: %s passes its health check again", target.service, url)
        elif had_passed:
            log.warning("%s: %s fails its health check: %s", target.service, url, description)
        else:
            text = "%s: %s fails its health check, and has not passed one since this worker started: %s"
            log.warning(text, target.service, url, description)
