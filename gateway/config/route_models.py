"""Settings of a route, most of which a service has, too: who may call it, how often, and how long requests may take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from gateway.config.base import Model
from gateway.config.field_types import Limit, Plans, RouteMethod, RoutePath, Scope, Seconds
from gateway.config.validators import PLACEHOLDER

TokenPolicy = Literal["required", "none"]
LimitsMode = Literal["enforce", "observe"]
OnRedisFailure = Literal["local", "open", "closed"]
CountBy = Literal["principal", "address"]
Undocumented = Literal["allow", "log", "refuse"]
Cost = Annotated[int, Field(ge=0, le=1_000_000)]


class RouteSettings(Model):
    """A narrower path with its own policy. Of several routes that match a request, the most specific one applies. Every
    setting without a default is inherited from the service."""

    path: RoutePath
    """An exact path, with `{placeholders}` for segments, or with `/**` at its end for everything at and below it."""
    methods: tuple[RouteMethod, ...] = ()
    """Methods that the route applies to; an empty list: all methods."""
    auth: TokenPolicy | None = None
    """Whether a valid token is required."""
    scopes: tuple[Scope, ...] | None = None
    """Scopes that the token must have, all of them; replaces those of the service."""
    limits: tuple[Limit, ...] | None = None
    """Limits of the route, instead of those of the service; an empty list: the default limits of `[ratelimit]`."""
    plans: Plans | None = None
    """Limits of the route for callers on a plan, instead of `limits`."""
    cost: Cost | None = None
    """What a request is charged; 0: nothing."""
    count_by: CountBy | None = None
    """Whose counter a request is charged to: `address` ignores the token. Use it where passwords are tried."""
    limits_mode: LimitsMode | None = None
    """`observe` reports exceeded limits and lets the request pass."""
    on_redis_failure: OnRedisFailure | None = None
    """What happens to requests if Redis fails; see `[ratelimit]`."""
    connect_timeout_seconds: Seconds | None = None
    """Time limit for connecting to a target."""
    read_timeout_seconds: Seconds | None = None
    """Longest time between two reads from a target."""
    head_timeout_seconds: Seconds | None = None
    """Time limit for the whole head of the response."""
    undocumented: Undocumented | None = None
    """What happens to requests that the API document of the service does not describe."""
    redact: tuple[str, ...] = ()
    """Placeholders whose values are secrets, so that they are neither logged nor traced; `path` names what `/**`
    matches."""

    def conflicts(self) -> Iterator[str]:
        names = [*PLACEHOLDER.findall(self.path), *(["path"] if self.path.endswith("/**") else [])]
        known = ", ".join(names) or "it has none"
        for name in self.redact:
            if name not in names:
                yield f"redact: {name!r} is not a placeholder of the path ({known})"
