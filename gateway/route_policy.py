"""The policy of a route: the settings that apply to its requests, resolved from route, service and gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.config import OnRedisFailure, RateLimitSettings, RouteSettings, ServiceSettings, Settings, Undocumented
from gateway.proxy.prefix_mapping import UNCHANGED, PrefixMapping
from gateway.proxy.timeouts import Timeouts


@dataclass(frozen=True, slots=True)
class LimitLevel:
    """The limits that one route or service sets: `plans` for callers on a plan, `limits` for all others. `name` is the
    name of the route or service, under which its requests are counted."""

    name: str
    limits: tuple[str, ...]
    plans: Mapping[str, tuple[str, ...]] = field(hash=False)


@dataclass(frozen=True, slots=True)
class RateLimitPolicy:
    """The rate limits of a route. The first of `levels` that has limits for the caller applies; if none has, the
    gateway's default applies.

    A request costs `cost`. With `observed`, exceeded limits are reported, not enforced. With `by_address`, callers with
    a token are counted by their addresses, too, and their plans don't apply."""

    levels: tuple[LimitLevel, ...]
    cost: int
    observed: bool
    on_redis_failure: OnRedisFailure
    by_address: bool = False


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """The policy of the requests that match `path` and `methods`. A `path` that ends in `/**` matches everything below
    it. Empty `methods` match every method. `name` is the name of the service; for a route, the name of the route is
    appended: `auth.login_post`."""

    service: str
    name: str
    path: str
    methods: tuple[str, ...]
    needs_token: bool
    scopes: tuple[str, ...]
    encoded_slashes: bool
    rate_limit: RateLimitPolicy
    time_limits: Timeouts
    # Placeholders whose values never appear in logs, spans and metrics; "path" is the part that /** matches.
    redact: tuple[str, ...] = ()
    undocumented: Undocumented = "allow"
    # How the prefix is replaced in the path that the service receives.
    prefix: PrefixMapping = UNCHANGED

    @property
    def limits(self) -> tuple[str, ...]:
        """The limits of the route or its service for callers without a plan; empty if the gateway's default applies."""
        return next((level.limits for level in self.rate_limit.levels if level.limits), ())


def policies_of(settings: Settings) -> Iterator[RoutePolicy]:
    """All policies, service by service, in the order of precedence: of two policies whose paths match a request equally
    well, the first one applies."""
    for name, service in settings.services.items():
        yield from service_policies(name, service, settings.ratelimit)


def service_policies(name: str, service: ServiceSettings, defaults: RateLimitSettings) -> Iterator[RoutePolicy]:
    """The policies of the routes, more specific ones first, then the policy of the service itself."""
    service_rate_limit = rate_limit_policy(
        name, service, RateLimitPolicy((), 1, defaults.limits_mode == "observe", defaults.on_redis_failure)
    )
    encoded_slashes = service.encoded_slashes == "forward"
    mappings = {prefix: PrefixMapping.of(service, prefix) for prefix in service.all_prefixes}
    taken: set[str] = set()
    routes = []
    for route in service.routes:
        placements = list(service.placements(route.path))
        own_name = f"{name}.{unused_name(route_name(route, placements[0][0]), taken)}"
        routes += [
            RoutePolicy(
                service=name,
                name=own_name,
                path=path,
                methods=route.methods,
                needs_token=(route.auth or service.auth) == "required",
                scopes=service.scopes if route.scopes is None else route.scopes,
                encoded_slashes=encoded_slashes,
                rate_limit=rate_limit_policy(own_name, route, service_rate_limit),
                time_limits=Timeouts.of(service, route),
                redact=route.redact,
                undocumented=route.undocumented or service.undocumented,
                prefix=mappings[prefix],
            )
            for prefix, path in placements
        ]
    # An exact path is more specific than one with /**, and named methods are more specific than all methods.
    yield from sorted(routes, key=lambda policy: (policy.path.endswith("/**"), not policy.methods))
    needs_token = service.auth == "required"
    limits = Timeouts.of(service)
    for prefix, mapping in mappings.items():
        yield RoutePolicy(
            service=name,
            name=name,
            path=prefix.rstrip("/") + "/**",
            methods=(),
            needs_token=needs_token,
            scopes=service.scopes,
            encoded_slashes=encoded_slashes,
            rate_limit=service_rate_limit,
            time_limits=limits,
            undocumented=service.undocumented,
            prefix=mapping,
        )


def rate_limit_policy(name: str, own: ServiceSettings | RouteSettings, outer: RateLimitPolicy) -> RateLimitPolicy:
    """The rate limits of a service or route; what it does not set, it inherits from `outer`."""
    # An empty list, unlike None, selects the gateway's default.
    levels = () if own.limits == () else outer.levels
    if own.limits or own.plans:
        levels = (LimitLevel(name, own.limits or (), own.plans or {}), *levels)
    return RateLimitPolicy(
        levels=levels,
        cost=outer.cost if own.cost is None else own.cost,
        observed=outer.observed if own.limits_mode is None else own.limits_mode == "observe",
        on_redis_failure=own.on_redis_failure or outer.on_redis_failure,
        by_address=outer.by_address if own.count_by is None else own.count_by == "address",
    )


def route_name(route: RouteSettings, prefix: str) -> str:
    """Names a route by its path below `prefix` and its methods: `/api/auth/login` with POST → `login_post`."""
    path = route.path.removeprefix(prefix).removesuffix("/**")
    words = [*re.findall(r"[A-Za-z0-9]+", path), *(method.lower() for method in route.methods)]
    return "_".join(words) or "route"


def unused_name(name: str, taken: set[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate
