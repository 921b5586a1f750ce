"""What the gateway asks of a request before it is forwarded: one policy per mapping, made from the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.config import OnRedisFailure, RateLimitSettings, RouteSettings, ServiceSettings, Settings, Undocumented
from gateway.proxy.prefix_mapping import UNCHANGED, PrefixMapping
from gateway.proxy.timeouts import Timeouts


@dataclass(frozen=True, slots=True)
class LimitLevel:
    """Limits of a route or a service, and of callers who have a plan; `name` is under which they are counted."""

    name: str
    limits: tuple[str, ...]
    plans: Mapping[str, tuple[str, ...]] = field(hash=False)


@dataclass(frozen=True, slots=True)
class RateLimitPolicy:
    """What a request takes from the limits: `cost` from those of the first of `levels` that has any for its caller,
    else from the gateway's defaults. With `observed` a refusal is only told, never carried out. With `by_address` all
    callers count as those without a token do: by their addresses, and on no plan."""

    levels: tuple[LimitLevel, ...]
    cost: int
    observed: bool
    on_redis_failure: OnRedisFailure
    by_address: bool = False


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """The policy of one mapping. `name` is the service's, or the route's behind it: `auth.login_post`. `path` ends in
    `/**` where it covers everything below. Empty `methods`: all."""

    service: str
    name: str
    path: str
    methods: tuple[str, ...]
    needs_token: bool
    scopes: tuple[str, ...]
    encoded_slashes: bool
    rate_limit: RateLimitPolicy
    time_limits: Timeouts
    # Placeholders of the path that operators never see filled in; "path" is what /** stands for.
    redact: tuple[str, ...] = ()
    undocumented: Undocumented = "allow"
    # What becomes of the service's prefix that the path is below.
    prefix: PrefixMapping = UNCHANGED

    @property
    def limits(self) -> tuple[str, ...]:
        """The limits that it or its service has for all callers; empty where the gateway's defaults hold."""
        return next((level.limits for level in self.rate_limit.levels if level.limits), ())


def policies_of(settings: Settings) -> Iterator[RoutePolicy]:
    """Service by service, in the order in which they are to be asked: of two that fit a request equally well by their
    paths, the first one counts."""
    for name, service in settings.services.items():
        yield from service_policies(name, service, settings.ratelimit)


def service_policies(name: str, service: ServiceSettings, defaults: RateLimitSettings) -> Iterator[RoutePolicy]:
    """The policies of the routes, the more specific ones first, then the service's own."""
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
    # A path of its own is more specific than being below one, and named methods are more specific than all.
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
    """The quota of a service or route: what it leaves out it takes from what is around it."""
    # An empty list of a route's own means the gateway's defaults.
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
    """`/api/auth/login` with POST → `login_post`."""
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
