"""The whole configuration. Each default stands here once; unknown keys are refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from gateway.config.base import Model
from gateway.config.field_types import (
    Bytes,
    File,
    HeaderName,
    HiddenPath,
    Limit,
    Method,
    Network,
    Origin,
    Plans,
    RedisPrefix,
    RedisUrl,
    ServiceName,
    Text,
)
from gateway.config.route_models import LimitsMode, OnRedisFailure, TokenPolicy
from gateway.config.server_models import AdminSettings, LogSettings, ProxySettings, ServerSettings, TracingSettings
from gateway.config.service_models import ServiceSettings, is_within_prefix, limits_of_plans
from gateway.config.token_models import IdentitySettings, JwtSettings, RevocationSettings

RESERVED_PATHS = ("/healthz", "/readyz", "/openapi.json", "/openapi", "/docs", "/metrics", "/status", "/.well-known")
RESERVED_SERVICE_NAMES = ("gateway", "static")


class CorsSettings(Model):
    """Cross-origin requests (CORS). Without `origins`, pages of other origins cannot read responses."""

    origins: tuple[Origin, ...] = ()
    """Origins whose pages may read responses. `*` stands for all origins, for labels of a host
    (`https://*.example.com`) or for a port (`http://localhost:*`)."""
    credentials: bool = False
    """Allow cookies and client certificates in cross-origin requests."""
    methods: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    """Methods that pages may use."""
    allow_headers: tuple[HeaderName, ...] = ("*",)
    """Headers that pages may send; `*` allows what a preflight asks for."""
    expose_headers: tuple[HeaderName, ...] = ()
    """Headers that pages may read, besides those of the gateway."""
    max_age_seconds: Annotated[int, Field(ge=0, le=86400)] = 600
    """Time that browsers cache the response to a preflight."""
    private_network: bool = False
    """Allow pages of public networks to reach the gateway in a private network (Private Network Access)."""

    def conflicts(self) -> Iterator[str]:
        if self.credentials and "*" in self.origins:
            yield 'credentials = true can\'t be combined with origins = ["*"]: list the origins'
        # A sandboxed frame gives any page the origin "null".
        if self.credentials and "null" in self.origins:
            yield 'credentials = true can\'t be combined with the origin "null", which any page can have'


class RateLimitSettings(Model):
    """Rate limits of services and routes without limits of their own, and what happens without Redis."""

    enabled: bool = True
    """Count and limit requests."""
    default: Limit = "300/minute"
    """Limit of a principal, which is the `sub` of a valid token."""
    anonymous: Limit = "60/minute"
    """Limit of a client address, for requests without a valid token."""
    plan_claim: Text = "plan"
    """Claim that names the plan of a caller."""
    plans: Plans = Field(default={})
    """Limits for callers on a plan, instead of `default`: `pro = ["3000/minute"]`."""
    limits_mode: LimitsMode = "enforce"
    """`observe` reports exceeded limits and lets the request pass."""
    on_redis_failure: OnRedisFailure = "local"
    """Without Redis, `local` counts in each worker (the limit divided by the number of workers), `open` lets requests
    pass, and `closed` answers 503."""
    exempt_addresses: tuple[Network, ...] = ()
    """Client addresses and networks without limits."""
    exempt_principals: tuple[Text, ...] = ()
    """Subjects without limits; with several issuers `"https://id.example.com alice"`."""


class DocsSettings(Model):
    """The API document of all services, `/openapi.json`, and its page, `/docs`."""

    enabled: bool = True
    """Serve the document and the page."""
    auth: TokenPolicy = "none"
    """Whether a valid token is required to read the documents."""
    title: Text = "API"
    """Title of the document."""
    refresh_seconds: Annotated[float, Field(ge=1, le=86400)] = 60
    """Age after which the next request causes a refresh of a service's document."""
    max_bytes: Annotated[Bytes, Field(ge=1024, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    """Largest accepted document of a service."""
    hidden: tuple[HiddenPath, ...] = ()
    """Patterns of paths that are left out: `/api/devices/internal/**`, `/api/*/debug`."""


def require_services(services: dict[str, ServiceSettings]) -> dict[str, ServiceSettings]:
    if not services:
        raise PydanticCustomError(
            "no_services", "there is none; add a [services.NAME] table or leave default_services on"
        )
    return services


class Settings(Model):
    """Settings at the top of the file, before any table."""

    default_services: bool = True
    """Include the built-in services `auth`, `livestreams`, `rules` and `devices`."""
    redis_url: RedisUrl | None = None
    """URL of Redis: a server, sentinels or a cluster; the variable REDIS_URL sets it, too. Default: a private server
    that gunicorn's master starts, whose data ends with it."""
    redis_url_file: File | None = None
    """File with the URL of Redis, instead of `redis_url`."""
    redis_prefix: RedisPrefix = ""
    """Prefix of all keys, for example `shop:`, for a Redis that other applications use."""
    redis_timeout_seconds: Annotated[float, Field(ge=0.01, le=5)] = 0.1
    """Time limit for connecting to Redis and for each reply; then `on_redis_failure` applies."""
    jwt: JwtSettings = JwtSettings()
    revocation: RevocationSettings = RevocationSettings()
    identity: IdentitySettings = IdentitySettings()
    cors: CorsSettings = CorsSettings()
    ratelimit: RateLimitSettings = RateLimitSettings()
    proxy: ProxySettings = ProxySettings()
    docs: DocsSettings = DocsSettings()
    log: LogSettings = LogSettings()
    admin: AdminSettings = AdminSettings()
    tracing: TracingSettings = TracingSettings()
    server: ServerSettings = ServerSettings()
    services: Annotated[
        dict[ServiceName, ServiceSettings], AfterValidator(require_services), Field(validate_default=True)
    ] = Field(default={})

    def conflicts(self) -> Iterator[str]:
        yield from self.revocation_errors()
        yield from self.service_errors()

    def revocation_errors(self) -> Iterator[str]:
        """A revocation must be kept for as long as a token lives: otherwise the token would be accepted again."""
        lifetimes = [one.lifetime_seconds for one in (self.jwt, *self.jwt.issuers)]
        longest = max(seconds or 0 for seconds in (*lifetimes, self.jwt.max_lifetime_seconds))
        longest = math.ceil(longest + self.jwt.leeway_seconds)
        if self.revocation.enabled and self.revocation.keep_seconds < longest:
            yield f"revocation.keep_seconds: must be at least {longest}, the longest lifetime of a token"

    def service_errors(self) -> Iterator[str]:
        owners = dict[str, str]()
        for name, service in self.services.items():
            if name in RESERVED_SERVICE_NAMES:
                yield f"services.{name}: this name is the gateway's own"
            for label, prefix in service.labelled_prefixes():
                if (other := owners.setdefault(prefix, name)) != name:
                    yield f"services.{name}.{label}: {prefix!r} belongs to services.{other} already"
        defaults = (self.ratelimit.default, self.ratelimit.anonymous, *limits_of_plans(self.ratelimit.plans))
        for name, service in self.services.items():
            prefixes, paths = list(service.labelled_prefixes()), list(service.labelled_paths())
            for label, path in [*prefixes, *paths]:
                first_segment = "/" + path.split("/")[1]
                # For a reserved prefix, one error is enough; its routes get none. A service at / may have paths below
                # the gateway's own paths, which are matched first. Below /openapi it may not: there any name may be the
                # name of a service.
                is_own = "/" in service.all_prefixes and first_segment in (path, "/openapi")
                if first_segment in RESERVED_PATHS and ((label, path) in prefixes or is_own):
                    yield f"services.{name}.{label}: {first_segment!r} is the gateway's own"
            for label, path in paths:
                if (other := owner_of(path, owners)) not in ("", owners[service.prefix]):
                    yield f"services.{name}.{label}: {path!r} belongs to services.{other}, by its longer prefix"
            yield from (f"services.{name}.{line}" for line in service.cost_errors(defaults))


def owner_of(path: str, owners: dict[str, str]) -> str:
    """The name of the service with the longest prefix that contains the path; empty if no prefix contains it."""
    matching = [prefix for prefix in owners if is_within_prefix(path, prefix)]
    return owners[max(matching, key=len)] if matching else ""
