"""What can be configured: frozen models, each default standing here once, unknown keys refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from gateway.config.addresses import check_bind, check_network, check_origin, check_target
from gateway.config.base import Model, Scope, Seconds, Text, refuse
from gateway.config.limit_text import check_limit, parse_limits
from gateway.config.redis_url import check_redis_url
from gateway.config.token_models import File, IdentitySettings, JwtSettings, RevocationSettings
from gateway.config.values import (
    PLACEHOLDER,
    check_field_name,
    check_hidden_path,
    check_method,
    check_own_path,
    check_prefix,
    check_route_method,
    check_route_path,
    check_service_name,
)

Limit = Annotated[str, AfterValidator(check_limit)]
FieldName = Annotated[str, AfterValidator(check_field_name)]
Method = Annotated[str, AfterValidator(check_method)]
RouteMethod = Annotated[str, AfterValidator(check_route_method)]
TokenPolicy = Literal["required", "none"]
LimitsMode = Literal["enforce", "observe"]
OnRedisFailure = Literal["local", "open", "closed"]
Plans = dict[Text, tuple[Limit, ...]]
# What a request takes from its limits; nothing at all with 0.
Cost = Annotated[int, Field(ge=0, le=1_000_000)]

RESERVED_PATHS = ("/healthz", "/readyz", "/openapi.json", "/openapi", "/docs", "/metrics", "/status", "/.well-known")
RESERVED_SERVICE_NAMES = ("gateway", "static")


class CorsSettings(Model):
    """Which web pages of other origins may read answers. Empty `origins`: none."""

    origins: tuple[Annotated[str, AfterValidator(check_origin)], ...] = ()
    credentials: bool = False
    methods: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    allow_headers: tuple[FieldName, ...] = ("*",)
    expose_headers: tuple[FieldName, ...] = ()
    max_age_seconds: Annotated[int, Field(ge=0, le=86400)] = 600

    @model_validator(mode="after")
    def check_wildcard(self) -> Self:
        mistakes = []
        if self.credentials and "*" in self.origins:
            mistakes.append('credentials = true can\'t be combined with origins = ["*"]: list the origins')
        # Any page can make its origin "null", in a sandboxed frame.
        if self.credentials and "null" in self.origins:
            mistakes.append('credentials = true can\'t be combined with the origin "null", which any page can have')
        refuse(mistakes)
        return self


class RateLimitSettings(Model):
    """Quotas where a service or route has no `limits` of its own, and what happens without Redis. `plans` are limits
    for callers whose claim `plan_claim` names one."""

    enabled: bool = True
    default: Limit = "300/minute"
    anonymous: Limit = "60/minute"
    plan_claim: Text = "plan"
    plans: Plans = Field(default={})
    limits_mode: LimitsMode = "enforce"
    on_redis_failure: OnRedisFailure = "local"
    exempt_addresses: tuple[Annotated[str, AfterValidator(check_network)], ...] = ()
    exempt_principals: tuple[Text, ...] = ()


class ProxySettings(Model):
    """What stands in front of the gateway."""

    trusted_hops: Annotated[int, Field(ge=0, le=10)] = 0


class DocsSettings(Model):
    """The API document of all services, and the page for it. `hidden` are patterns of paths that it does not tell."""

    enabled: bool = True
    auth: TokenPolicy = "none"
    title: Text = "API"
    refresh_seconds: Annotated[float, Field(ge=1, le=86400)] = 60
    max_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    hidden: tuple[Annotated[str, AfterValidator(check_hidden_path)], ...] = ()


class AdminSettings(Model):
    """Who may read what is for operators: addresses and networks of the connection's own peer."""

    allow: tuple[Annotated[str, AfterValidator(check_network)], ...] = ("127.0.0.0/8", "::1")


class ServerSettings(Model):
    """How gunicorn serves. `bind` and `workers` follow PORT and WEB_CONCURRENCY where those are set."""

    bind: Annotated[str, AfterValidator(check_bind)] = "127.0.0.1:8000"
    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    worker: Literal["gevent", "gthread"] = "gevent"
    threads: Annotated[int, Field(ge=1, le=256)] = 8
    connections_per_worker: Annotated[int, Field(ge=1, le=100_000)] = 2000
    keepalive_seconds: Annotated[int, Field(ge=1, le=600)] = 15
    client_timeout_seconds: Seconds = 30
    graceful_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 30

    @property
    def worker_count(self) -> int:
        """`workers`, else one per core, and two at least: one that dies must not be the only one."""
        return self.workers or max(2, os.cpu_count() or 1)


class RouteSettings(Model):
    """A narrower path with its own policy. What it leaves out it takes from its service."""

    path: Annotated[str, AfterValidator(check_route_path)]
    methods: tuple[RouteMethod, ...] = ()
    auth: TokenPolicy | None = None
    scopes: tuple[Scope, ...] | None = None
    limits: tuple[Limit, ...] | None = None
    plans: Plans | None = None
    cost: Cost | None = None
    limits_mode: LimitsMode | None = None
    on_redis_failure: OnRedisFailure | None = None


class ServiceSettings(Model):
    """One service behind the gateway: everything at and below `prefix`."""

    prefix: Annotated[str, AfterValidator(check_prefix)]
    targets: Annotated[tuple[Annotated[str, AfterValidator(check_target)], ...], Field(min_length=1)]
    auth: TokenPolicy = "required"
    scopes: tuple[Scope, ...] = ()
    limits: tuple[Limit, ...] = ()
    plans: Plans = Field(default={})
    cost: Cost = 1
    limits_mode: LimitsMode | None = None
    on_redis_failure: OnRedisFailure | None = None
    routes: tuple[RouteSettings, ...] = ()
    strip_prefix: bool = False
    preserve_host: bool = False
    encoded_slashes: Literal["refuse", "forward"] = "refuse"
    connect_timeout_seconds: Seconds = 2
    read_timeout_seconds: Seconds = 30
    max_body_bytes: Annotated[int, Field(ge=0)] = 100 * 1024 * 1024
    max_in_flight: Annotated[int, Field(ge=1)] = 200
    keepalive_connections: Annotated[int, Field(ge=0, le=10_000)] = 100
    openapi_path: Annotated[str, AfterValidator(check_own_path)] = "/openapi.json"
    in_docs: bool = True
    undocumented: Literal["allow", "log", "refuse"] = "allow"
    ca_file: File | None = None
    client_certificate_file: File | None = None
    client_key_file: File | None = None

    def labelled_paths(self) -> Iterator[tuple[str, str]]:
        """Each route's path as it is named in a mistake, and without its /**."""
        for index, route in enumerate(self.routes):
            yield f"routes[{index}].path", route.path.removesuffix("/**") or "/"

    def labelled_costs(self) -> Iterator[tuple[str, int, tuple[str, ...]]]:
        """Where a cost is, as it is named in a mistake, the cost, and the own limits that it is taken from."""
        of_plans = texts_of(self.plans)
        yield "cost", self.cost, (*self.limits, *of_plans)
        for index, route in enumerate(self.routes):
            cost = self.cost if route.cost is None else route.cost
            own = self.limits if route.limits is None else route.limits
            yield f"routes[{index}].cost", cost, (*own, *of_plans, *texts_of(route.plans))

    @model_validator(mode="after")
    def check_policies(self) -> Self:
        below = self.prefix.rstrip("/") + "/"
        mistakes, seen = [], set()
        for index, route in enumerate(self.routes):
            path = route.path.removesuffix("/**") or "/"
            if path != self.prefix and not path.startswith(below):
                mistakes.append(f"routes[{index}].path: {route.path!r} is not below the prefix {self.prefix!r}")
            # Placeholders are told apart by where they stand, not by their names.
            shape = PLACEHOLDER.sub("{}", route.path)
            for method in route.methods or ("any method",):
                if (shape, method) in seen:
                    mistakes.append(f"routes[{index}].path: {route.path!r} has a policy for {method} already")
                seen.add((shape, method))
            auth = route.auth or self.auth
            if auth == "none" and (route.scopes or (route.scopes is None and self.scopes)):
                mistakes.append(f'routes[{index}].auth: "none" can\'t be combined with scopes; set scopes = []')
        if self.auth == "none" and self.scopes:
            mistakes.append('auth: "none" can\'t be combined with scopes')
        if (self.client_certificate_file is None) != (self.client_key_file is None):
            mistakes.append("client_certificate_file and client_key_file go together")
        if (self.ca_file or self.client_certificate_file) and not any(one.startswith("https:") for one in self.targets):
            mistakes.append("targets: none is https, but there is a ca_file or client_certificate_file")
        refuse(mistakes)
        return self


def texts_of(plans: dict[str, tuple[str, ...]] | None) -> list[str]:
    return [text for texts in (plans or {}).values() for text in texts]


def cost_mistakes(label: str, cost: int, texts: Iterable[str]) -> list[str]:
    """A cost that is more than a limit could ever have to give."""
    small = [limit.text for text in texts for limit in parse_limits(text) if limit.capacity < cost]
    return [f"{label}: {cost} is more than {text!r} could ever let pass" for text in dict.fromkeys(small)]


def check_any_service(services: dict[str, ServiceSettings]) -> dict[str, ServiceSettings]:
    if not services:
        raise PydanticCustomError(
            "no_services", "there is none; add a [services.NAME] table or leave default_services on"
        )
    return services


class Settings(Model):
    """The whole configuration."""

    redis_url: Annotated[SecretStr, AfterValidator(check_redis_url)] | None = None
    redis_timeout_seconds: Annotated[float, Field(ge=0.01, le=5)] = 0.1
    default_services: bool = True
    jwt: JwtSettings = JwtSettings()
    revocation: RevocationSettings = RevocationSettings()
    identity: IdentitySettings = IdentitySettings()
    cors: CorsSettings = CorsSettings()
    ratelimit: RateLimitSettings = RateLimitSettings()
    proxy: ProxySettings = ProxySettings()
    docs: DocsSettings = DocsSettings()
    admin: AdminSettings = AdminSettings()
    server: ServerSettings = ServerSettings()
    services: Annotated[
        dict[Annotated[str, AfterValidator(check_service_name)], ServiceSettings],
        AfterValidator(check_any_service),
        Field(validate_default=True),
    ] = Field(default={})

    @model_validator(mode="after")
    def check_services(self) -> Self:
        mistakes, owners = [], dict[str, str]()
        for name, service in self.services.items():
            if name in RESERVED_SERVICE_NAMES:
                mistakes.append(f"services.{name}: this name is the gateway's own")
            if other := owners.get(service.prefix):
                mistakes.append(f"services.{name}.prefix: {service.prefix!r} belongs to services.{other} already")
            owners.setdefault(service.prefix, name)
        for name, service in self.services.items():
            for label, path in [("prefix", service.prefix), *service.labelled_paths()]:
                first_segment = "/" + path.split("/")[1]
                # A route's path begins like its prefix, which has been told then.
                if first_segment in RESERVED_PATHS and (label == "prefix" or service.prefix == "/"):
                    mistakes.append(f"services.{name}.{label}: {first_segment!r} is the gateway's own")
            for label, path in service.labelled_paths():
                if (other := owner_of(path, owners)) and other != owners[service.prefix]:
                    mistakes.append(
                        f"services.{name}.{label}: {path!r} belongs to services.{other}, by its longer prefix"
                    )
            for label, cost, own in service.labelled_costs():
                defaults = (self.ratelimit.default, self.ratelimit.anonymous, *texts_of(self.ratelimit.plans))
                mistakes += cost_mistakes(f"services.{name}.{label}", cost, own or defaults)
        refuse(mistakes)
        return self


def owner_of(path: str, owners: dict[str, str]) -> str | None:
    """The name of the service with the longest of the prefixes that the path is at or below."""
    fitting = [prefix for prefix in owners if path == prefix or path.startswith(prefix.rstrip("/") + "/")]
    return owners[max(fitting, key=len)] if fitting else None
