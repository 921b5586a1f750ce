"""Settings of a service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from gateway.config.base import Model
from gateway.config.field_types import (
    Bytes,
    DocumentPath,
    DriftRule,
    File,
    Host,
    Limit,
    Plans,
    Prefix,
    Scope,
    Seconds,
    Share,
    Target,
)
from gateway.config.limit_syntax import parse_limits
from gateway.config.route_models import (
    Cost,
    CountBy,
    LimitsMode,
    OnRedisFailure,
    RouteSettings,
    TokenPolicy,
    Undocumented,
)
from gateway.config.target_models import BreakerSettings, HealthSettings
from gateway.config.validators import PLACEHOLDER


class ServiceSettings(Model):
    """A service: everything at and below its prefixes. `prefix` and `targets` are required, except for a built-in
    service."""

    prefix: Prefix
    """Path prefix, for example `/api/devices`; `/` gets everything that no other service has."""
    prefixes: tuple[Prefix, ...] = ()
    """Further prefixes of the same service, for example the one that clients used before."""
    target_prefix: Prefix | None = None
    """Prefix that the service has instead: with `/devices`, `/api/devices/1` is forwarded as `/devices/1`."""
    targets: Annotated[tuple[Target, ...], Field(min_length=1)]
    """Base URLs of the service; requests are balanced over several."""
    auth: TokenPolicy = "required"
    """Whether a valid token is required."""
    scopes: tuple[Scope, ...] = ()
    """Scopes that the token must have, all of them."""
    limits: tuple[Limit, ...] = ()
    """Limits of the service, instead of the default ones of `[ratelimit]`; a request must be within all of them."""
    plans: Plans = Field(default={})
    """Limits of the service for callers on a plan, instead of `limits`."""
    cost: Cost = 1
    """What a request is charged; 0: nothing."""
    count_by: CountBy = "principal"
    """Whose counter a request is charged to: that of the principal, if there is a valid token, or always that of the
    `address`. Use `address` where passwords are tried."""
    limits_mode: LimitsMode | None = None
    """`observe` reports exceeded limits and lets the request pass. Default: that of `[ratelimit]`."""
    on_redis_failure: OnRedisFailure | None = None
    """What happens to requests if Redis fails. Default: that of `[ratelimit]`."""
    routes: tuple[RouteSettings, ...] = ()
    """Narrower paths with policies of their own."""
    strip_prefix: bool = False
    """Forward the path without the prefix: `/api/devices/1` becomes `/1`."""
    host: Host | None = None
    """`Host` that the service is sent, also by health checks. Default: the host of the target."""
    preserve_host: bool = False
    """Send the client's `Host` instead of the target's."""
    encoded_slashes: Literal["refuse", "forward"] = "refuse"
    """Whether paths with `%2F`, `%5C`, `%252F` or bytes that are not UTF-8 are answered with 400 or forwarded. Forward
    them only to a service that does not decode paths before it decides about access."""
    weights: tuple[Annotated[int, Field(ge=0, le=10_000)], ...] = ()
    """Share of the requests that each target gets, for example `[95, 5]`. Default: equal shares."""
    balancing: Literal["least", "round_robin", "principal"] = "least"
    """`least`: the less busy of two random targets; `round_robin`: in turn; `principal`: always the same target for a
    principal."""
    connect_timeout_seconds: Seconds = 2
    """Time limit for connecting to a target, name lookup included."""
    read_timeout_seconds: Seconds = 30
    """Longest time between two reads from a target."""
    head_timeout_seconds: Seconds | None = None
    """Time limit for the whole head of the response. Default: `read_timeout_seconds`."""
    retries: Annotated[int, Field(ge=0, le=5)] = 1
    """Maximum number of times that a request is sent again, to another target and only if that is safe."""
    retry_budget: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the requests that may be sent again, and ten more."""
    breaker: BreakerSettings = BreakerSettings()
    health: HealthSettings = HealthSettings()
    max_body_bytes: Annotated[Bytes, Field(ge=0)] = 100 * 1024 * 1024
    """Largest body of a request; larger ones are answered with 413."""
    max_in_flight: Annotated[int, Field(ge=1)] = 400
    """Maximum number of requests in flight per worker; others are answered with 503 at once."""
    max_in_flight_per_caller: Share = 1
    """Share of `max_in_flight` that one caller may use: a principal, or a client address without a token (IPv6: its /64
    network). One request is always allowed."""
    max_uploads_in_flight: Share = 0.5
    """Share of `max_in_flight` that uploads may use while they arrive: bodies that are chunked or over 64 KiB."""
    max_uploads_in_flight_per_caller: Share = 0.25
    """Share of `max_in_flight` that the uploads of one caller may use."""
    max_in_flight_per_target: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of requests in flight per target and worker. Default: no limit."""
    keepalive_connections: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Maximum number of idle connections per target and worker."""
    keepalive_idle_seconds: Seconds = 1.5
    """Time after which an idle connection is closed. It must be shorter than the service's own (uvicorn 5, gunicorn
    2), else requests may be sent on a connection that the service closes."""
    openapi_path: DocumentPath = "/openapi.json"
    """Path of the service's own API document, in JSON or YAML; `""` if it has none."""
    in_docs: bool = True
    """Include the service in the API document of the gateway."""
    drift_ignore: tuple[DriftRule, ...] = ()
    """Kinds of drift that `flask drift` does not report, each for all paths or for a pattern:
    `"unreachable_operation /metrics/**"`."""
    undocumented: Undocumented = "allow"
    """Whether requests that the service's API document does not describe are forwarded, forwarded and logged, or
    answered with 404."""
    ca_file: File | None = None
    """PEM file with the certificate authorities of https targets. Default: the public ones."""
    client_certificate_file: File | None = None
    """PEM file with the certificate that the gateway identifies itself with to https targets."""
    client_key_file: File | None = None
    """PEM file with the key of `client_certificate_file`."""

    @property
    def all_prefixes(self) -> tuple[str, ...]:
        return (self.prefix, *self.prefixes)

    def labelled_prefixes(self) -> Iterator[tuple[str, str]]:
        """Each prefix, with its name in errors: `prefix` or `prefixes[0]`."""
        yield "prefix", self.prefix
        for index, prefix in enumerate(self.prefixes):
            yield f"prefixes[{index}]", prefix

    def placements(self, path: str) -> Iterator[tuple[str, str]]:
        """Yields each prefix below which the policy of a route holds, and the path of the route there.

        If the prefix is stripped or replaced, all prefixes lead to the same paths of the service. The policy then holds
        below each prefix, so that no prefix bypasses it. Otherwise it holds only below the prefix that contains
        `path`."""
        own = next((prefix for prefix in self.all_prefixes if is_within_prefix(path, prefix)), None)
        if own is None:
            return
        rest = path[len(own.rstrip("/")) :]
        is_moved = self.strip_prefix or self.target_prefix is not None
        for prefix in self.all_prefixes if is_moved else (own,):
            yield prefix, prefix.rstrip("/") + rest or "/"

    def labelled_paths(self) -> Iterator[tuple[str, str]]:
        """Yields the name of each route's `path` in errors, and the path below each prefix that it holds for, without
        `/**`."""
        for index, route in enumerate(self.routes):
            for _, path in self.placements(route.path):
                yield f"routes[{index}].path", path.removesuffix("/**") or "/"

    def conflicts(self) -> Iterator[str]:
        yield from self.prefix_errors()
        yield from self.route_errors()
        yield from self.document_errors()
        yield from self.target_errors()
        yield from self.tls_errors()

    def prefix_errors(self) -> Iterator[str]:
        for index, prefix in enumerate(self.prefixes):
            if other := next((one for one in self.all_prefixes[: index + 1] if are_nested(prefix, one)), None):
                yield f"prefixes[{index}]: {prefix!r} and {other!r} lie within each other"
        if self.target_prefix is not None and self.strip_prefix:
            yield "target_prefix: can't be combined with strip_prefix = true"
        elif self.target_prefix is not None and self.all_prefixes == (self.target_prefix,):
            yield "target_prefix: is the prefix itself"

    def route_errors(self) -> Iterator[str]:
        seen = set()
        for index, route in enumerate(self.routes):
            paths = [path for _, path in self.placements(route.path)]
            if not paths:
                prefixes = " or ".join(map(repr, self.all_prefixes))
                yield f"routes[{index}].path: {route.path!r} is not below the prefix {prefixes}"
            for path, method in product(paths, route.methods or ("any method",)):
                # Two paths that differ only in the names of placeholders are the same.
                if (policy := (PLACEHOLDER.sub("{}", path), method)) in seen:
                    yield f"routes[{index}].path: {path!r} has a policy for {method} already"
                seen.add(policy)
            if (route.auth or self.auth) == "none" and (self.scopes if route.scopes is None else route.scopes):
                yield f'routes[{index}].auth: "none" can\'t be combined with scopes; set scopes = []'
        if self.auth == "none" and self.scopes:
            yield 'auth: "none" can\'t be combined with scopes'

    def document_errors(self) -> Iterator[str]:
        if self.openapi_path:
            return
        modes = {"": self.undocumented} | {f"routes[{i}].": one.undocumented for i, one in enumerate(self.routes)}
        for at, mode in modes.items():
            if mode in ("log", "refuse"):
                yield f'{at}undocumented: "{mode}" has no effect with openapi_path = ""'
        if self.drift_ignore:
            yield 'drift_ignore: has no effect with openapi_path = ""'

    def target_errors(self) -> Iterator[str]:
        seen = dict[tuple[str, str, int | None, str], str]()
        for index, target in enumerate(self.targets):
            if (other := seen.setdefault(normalized_target(target), target)) is not target:
                yield f"targets[{index}]: {target!r} is the same target as {other!r}; use weights for a larger share"
        count = len(self.targets)
        if self.weights and len(self.weights) != count:
            yield f"weights: {len(self.weights)} for {count} targets"
        elif self.weights and not any(self.weights):
            yield "weights: all are 0"
        if self.preserve_host and self.host is not None:
            yield "host: can't be combined with preserve_host = true"
        if self.health.min_available > count:
            yield f"health.min_available: {self.health.min_available} of {count} targets"
        if (most := self.max_in_flight_per_target) is not None and most > self.max_in_flight:
            yield f"max_in_flight_per_target: {most} is over max_in_flight ({self.max_in_flight})"
        name, share = "max_uploads_in_flight_per_caller", self.max_uploads_in_flight_per_caller
        if name in self.changed_fields() and share > self.max_uploads_in_flight:
            yield f"{name}: {share:g} is over max_uploads_in_flight ({self.max_uploads_in_flight:g})"

    def tls_errors(self) -> Iterator[str]:
        if (self.client_certificate_file is None) != (self.client_key_file is None):
            yield "client_certificate_file and client_key_file must be set together"
        if (self.ca_file or self.client_certificate_file) and not any(one.startswith("https:") for one in self.targets):
            yield "targets: none is https, but ca_file or client_certificate_file is set"

    def cost_errors(self, defaults: Iterable[str]) -> Iterator[str]:
        """Finds costs that exceed a limit, so that no request could ever pass. `defaults` are the limits that apply to
        services without limits of their own."""
        of_plans = limits_of_plans(self.plans)
        costs = [("cost", self.cost, [*self.limits, *of_plans])]
        for index, route in enumerate(self.routes):
            own = self.limits if route.limits is None else route.limits
            cost = self.cost if route.cost is None else route.cost
            costs.append((f"routes[{index}].cost", cost, [*own, *of_plans, *limits_of_plans(route.plans)]))
        for label, cost, limits in costs:
            for limit in (limit for text in dict.fromkeys(limits or defaults) for limit in parse_limits(text)):
                if limit.capacity < cost:
                    yield f"{label}: {cost} is more than {limit.text!r} can ever allow"


def is_within_prefix(path: str, prefix: str) -> bool:
    """Whether the path of a route is at or below the prefix."""
    return (path.removesuffix("/**") or "/") == prefix or path.startswith(prefix.rstrip("/") + "/")


def are_nested(one: str, other: str) -> bool:
    return is_within_prefix(one, other) or is_within_prefix(other, one)


def normalized_target(target: str) -> tuple[str, str, int | None, str]:
    """The parts of a URL in a form that is equal for all spellings of the URL."""
    parts = urlsplit(target)
    default_port = 443 if parts.scheme == "https" else 80
    return parts.scheme, (parts.hostname or "").removesuffix("."), parts.port or default_port, parts.path


def limits_of_plans(plans: Plans | None) -> list[str]:
    return [text for texts in (plans or {}).values() for text in texts]
