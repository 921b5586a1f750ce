"""Settings of the targets of a service: when they get no requests because they fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from gateway.config.base import Model
from gateway.config.field_types import HealthPath, Seconds


class BreakerSettings(Model):
    """The circuit breaker of each target. It opens after `failures` in a row, or if a share of `failure_ratio` of at
    least `min_requests` requests failed in `window_seconds`. An open breaker keeps requests away from the target."""

    failures: Annotated[int, Field(ge=0)] = 5
    """Failures in a row that open the breaker; 0: they never do."""
    failure_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of failed requests that opens the breaker."""
    window_seconds: Seconds = 10
    """Time over which `failure_ratio` is computed."""
    min_requests: Annotated[int, Field(ge=1)] = 20
    """Minimum number of requests for which `failure_ratio` applies."""
    open_seconds: Seconds = 1
    """Time that the breaker stays open at first. It doubles each time that the target fails again, if another target
    is available."""
    max_open_seconds: Seconds = 30
    """Longest time that the breaker stays open."""

    def conflicts(self) -> Iterator[str]:
        if self.open_seconds > self.max_open_seconds:
            yield f"open_seconds: {self.open_seconds:g} is over max_open_seconds ({self.max_open_seconds:g})"


class HealthSettings(Model):
    """Active health checks of all targets. Without `path` there are none."""

    path: HealthPath | None = None
    """Path that each target is requested at, for example `/health`; a status below 400 passes."""
    interval_seconds: Seconds = 10
    """Time between two checks of a target."""
    timeout_seconds: Seconds = 2
    """Time limit of a check, from connecting to the end of the response's head."""
    unhealthy_after: Annotated[int, Field(ge=1, le=100)] = 3
    """Failed checks in a row after which a target is unhealthy."""
    healthy_after: Annotated[int, Field(ge=1, le=100)] = 2
    """Passed checks in a row after which a target is healthy again."""
    min_available: Annotated[int, Field(ge=0, le=1000)] = 1
    """Panic threshold: with fewer healthy targets, the results of health checks are ignored."""

    def conflicts(self) -> Iterator[str]:
        if self.path is None:
            yield from (f"{name}: has no effect without path" for name in self.changed_fields())
