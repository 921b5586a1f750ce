"""Describes the present state of this worker: collects it from the objects that serve requests."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from gateway.config import ServiceSettings
from gateway.proxy.balancer import TargetState
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.requests_session import ServiceSession
from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.status.rolling_stats import RollingStats
from gateway.system.memory import resident_bytes
from gateway.tokens.issuer import Issuer

# The id of this gateway. It is set at import, which happens in gunicorn's master, so all workers of a gateway have the
# same id, also later ones. Host name and process id would not be unique: two containers may have both in common.
GATEWAY_ID = secrets.token_hex(4)


@dataclass(frozen=True, slots=True)
class LiveService:
    """The objects that serve the requests of one service."""

    settings: ServiceSettings
    forwarder: Forwarder
    targets: Sequence[TargetState]
    session: ServiceSession


class WorkerState:
    """Collects the state. `configuration_tag` is equal for gateways of equal configuration. `clock` returns seconds
    since 1970."""

    def __init__(
        self,
        rolling_stats: RollingStats,
        rate_limiter: FallbackLimiter,
        issuers: Sequence[Issuer],
        configuration_tag: str,
        clock: Callable[[], float],
    ) -> None:
        self._rolling_stats = rolling_stats
        self._rate_limiter = rate_limiter
        self.issuers = issuers
        self._configuration_tag = configuration_tag
        self._clock = clock
        self._started = clock()
        self._build = build_tag()
        self.services: dict[str, LiveService] = {}

    @staticmethod
    def worker_id() -> str:
        """An id of this process that no other worker of any gateway has."""
        return f"{GATEWAY_ID}:{os.getpid()}"

    def report(self) -> str:
        """Returns the JSON of a `WorkerReport`."""
        now, running = self._clock(), self._rolling_stats.running()
        services = {name: service_report(service) for name, service in self.services.items()}
        for name, slot in running.items():
            services[name]["running"] = json.loads(slot)
        report = {
            "gateway": GATEWAY_ID,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "build": self._build,
            "configuration": self._configuration_tag,
            "at": now,
            "uptime_seconds": max(0.0, now - self._started),
            "rss_bytes": resident_bytes() or None,
            "redis": self._rate_limiter.state,
            "keys": [
                {"issuer": one.name, "state": one.keys.state, "age_seconds": one.keys.age_seconds}
                for one in self.issuers
            ],
            "services": services,
        }
        return json.dumps(report, separators=(",", ":"))


def service_report(service: LiveService) -> dict[str, Any]:
    """Returns the fields of a `ServiceReport`."""
    targets = [
        {
            "url": state.target.url,
            "health": health_of(state) if service.settings.health.path else "not checked",
            "breaker": state.breaker.state,
            "open_seconds": state.breaker.seconds_until_next_try(),
            "is_paused": state.breaker.is_resting,
            "in_flight": state.in_flight,
        }
        for state in service.targets
    ]
    return {"prefix": service.settings.prefix, "in_flight": service.forwarder.in_flight, "targets": targets}


def health_of(state: TargetState) -> str:
    if not state.is_health_known:
        return "unknown"
    return "healthy" if state.is_healthy else "unhealthy"


@cache
def build_tag() -> str:
    """A short hash of the gateway's source code."""
    digest = sha256()
    for file in sorted(Path(str(files("gateway"))).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]
