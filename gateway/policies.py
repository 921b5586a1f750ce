"""What the gateway asks of a request before it is forwarded: one policy per mapping, made from the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.config import RouteSettings, ServiceSettings, Settings


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of one mapping. `name` is the service's, or the route's behind it: `auth.login_post`. `path` ends in
    `/**` where it covers everything below. Empty `methods`: all. Empty `limits`: the gateway's defaults."""

    service: str
    name: str
    path: str
    methods: tuple[str, ...]
    needs_token: bool
    scopes: tuple[str, ...]
    limits: tuple[str, ...]
    encoded_slashes: bool
    # Under which name the limits are counted: its service's, where a route has none of its own.
    quota: str


def policies_of(settings: Settings) -> Iterator[Policy]:
    """Service by service, in the order in which they are to be asked: of two that fit a request equally well by their
    paths, the first one counts."""
    for name, service in settings.services.items():
        yield from service_policies(name, service)


def service_policies(name: str, service: ServiceSettings) -> Iterator[Policy]:
    """The policies of the routes, the more specific ones first, then the service's own."""
    encoded_slashes = service.encoded_slashes == "forward"
    below = service.prefix.rstrip("/") + "/**"
    taken: set[str] = set()
    routes = []
    for route in service.routes:
        own_name = f"{name}.{unused_name(route_name(route, service.prefix), taken)}"
        routes.append(
            Policy(
                service=name,
                name=own_name,
                path=route.path,
                methods=route.methods,
                needs_token=(route.auth or service.auth) == "required",
                scopes=service.scopes if route.scopes is None else route.scopes,
                limits=service.limits if route.limits is None else route.limits,
                encoded_slashes=encoded_slashes,
                quota=name if route.limits is None else own_name,
            )
        )
    # A path of its own is more specific than being below one, and named methods are more specific than all.
    yield from sorted(routes, key=lambda policy: (policy.path.endswith("/**"), not policy.methods))
    needs_token = service.auth == "required"
    yield Policy(name, name, below, (), needs_token, service.scopes, service.limits, encoded_slashes, name)


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
