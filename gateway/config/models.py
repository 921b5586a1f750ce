"""What can be configured: frozen models, each default standing here once, unknown keys refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from gateway.config.values import (
    check_header_name,
    check_limit,
    check_method,
    check_origin,
    check_prefix,
    check_redis_url,
    check_route_path,
    check_secret,
    check_service_name,
    check_target,
)

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
Limit = Annotated[str, AfterValidator(check_limit)]
HeaderName = Annotated[str, AfterValidator(check_header_name)]
Method = Annotated[str, AfterValidator(check_method)]
TokenPolicy = Literal["required", "none"]

RESERVED_PATHS = ("/healthz", "/readyz", "/openapi.json", "/openapi", "/docs", "/metrics", "/status", "/.well-known")
RESERVED_SERVICE_NAMES = ("gateway", "static")


class Model(BaseModel):
    # Secrets must not come back in a mistake's text, whatever the mistake is.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class JwtSettings(Model):
    """Who may call. Exactly one key source; with none, a secret is generated on the first start."""

    secret: Annotated[SecretStr, AfterValidator(check_secret)] | None = None
    public_key_file: Path | None = None
    algorithms: tuple[Algorithm, ...] | None = None
    issuer: str | None = None
    audience: str | tuple[str, ...] | None = None
    leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 5
    required_claims: tuple[str, ...] = ("exp", "sub")
    max_token_bytes: Annotated[int, Field(ge=256, le=65536)] = 8192
    cache_size: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    claims_to_headers: dict[str, HeaderName] = {"sub": "X-User-Subject", "user_id": "X-User-Id"}

    @model_validator(mode="after")
    def check_key_source(self) -> Self:
        if self.secret is not None and self.public_key_file is not None:
            raise ValueError("give secret or public_key_file, not both")
        if self.algorithms is not None:
            if not self.algorithms:
                raise ValueError("algorithms: must not be empty")
            symmetric = [name.startswith("HS") for name in self.algorithms]
            if self.public_key_file is not None and any(symmetric):
                raise ValueError("algorithms: HS* verifies with a secret, not with public_key_file")
            if self.public_key_file is None and not all(symmetric):
                raise ValueError("algorithms: only HS* can be verified with a secret; the others need public_key_file")
        return self


class CorsSettings(Model):
    """Which web pages of other origins may read answers. Empty `origins`: none."""

    origins: tuple[Annotated[str, AfterValidator(check_origin)], ...] = ()
    credentials: bool = False
    methods: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    allow_headers: tuple[str, ...] = ("*",)
    expose_headers: tuple[HeaderName, ...] = ()
    max_age_seconds: Annotated[int, Field(ge=0, le=86400)] = 600

    @model_validator(mode="after")
    def check_wildcard(self) -> Self:
        if self.credentials and "*" in self.origins:
            raise ValueError('credentials = true can\'t be combined with origins = ["*"]: list the origins')
        return self


class RateLimitSettings(Model):
    """Quotas where a service or route has no `limits` of its own, and what happens without Redis."""

    enabled: bool = True
    default: Limit = "300/minute"
    anonymous: Limit = "60/minute"
    on_redis_failure: Literal["local", "open", "closed"] = "local"


class ProxySettings(Model):
    """What stands in front of the gateway."""

    trusted_hops: Annotated[int, Field(ge=0, le=10)] = 0


class ServerSettings(Model):
    """How gunicorn serves. `bind` and `workers` follow PORT and WEB_CONCURRENCY where those are set."""

    bind: str = "127.0.0.1:8000"
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
    methods: tuple[Method, ...] = ()
    auth: TokenPolicy | None = None
    scopes: tuple[str, ...] | None = None
    limits: tuple[Limit, ...] | None = None


class ServiceSettings(Model):
    """One service behind the gateway: everything at and below `prefix`."""

    prefix: Annotated[str, AfterValidator(check_prefix)]
    targets: Annotated[tuple[Annotated[str, AfterValidator(check_target)], ...], Field(min_length=1)]
    auth: TokenPolicy = "required"
    scopes: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    routes: tuple[RouteSettings, ...] = ()
    strip_prefix: bool = False
    preserve_host: bool = False
    encoded_slashes: Literal["refuse", "forward"] = "refuse"
    connect_timeout_seconds: Seconds = 2
    read_timeout_seconds: Seconds = 30
    max_body_bytes: Annotated[int, Field(ge=0)] = 100 * 1024 * 1024
    max_in_flight: Annotated[int, Field(ge=1)] = 200
    keepalive_connections: Annotated[int, Field(ge=0, le=10_000)] = 100
    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None

    @model_validator(mode="after")
    def check_policies(self) -> Self:
        below = self.prefix.rstrip("/") + "/"
        mistakes, seen = [], set()
        for index, route in enumerate(self.routes):
            path = route.path.removesuffix("/**") or "/"
            if path != self.prefix and not path.startswith(below):
                mistakes.append(f"routes[{index}].path: {route.path!r} is not below the prefix {self.prefix!r}")
            for method in route.methods or ("any method",):
                if (route.path, method) in seen:
                    mistakes.append(f"routes[{index}].path: {route.path!r} has a policy for {method} already")
                seen.add((route.path, method))
            auth = route.auth or self.auth
            if auth == "none" and (route.scopes or (route.scopes is None and self.scopes)):
                mistakes.append(f'routes[{index}].auth: "none" can\'t be combined with scopes; set scopes = []')
        if self.auth == "none" and self.scopes:
            mistakes.append('auth: "none" can\'t be combined with scopes')
        if (self.client_certificate_file is None) != (self.client_key_file is None):
            mistakes.append("client_certificate_file and client_key_file go together")
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


class Settings(Model):
    """The whole configuration."""

    redis_url: Annotated[SecretStr, AfterValidator(check_redis_url)] | None = None
    default_services: bool = True
    jwt: JwtSettings = JwtSettings()
    cors: CorsSettings = CorsSettings()
    ratelimit: RateLimitSettings = RateLimitSettings()
    proxy: ProxySettings = ProxySettings()
    server: ServerSettings = ServerSettings()
    services: dict[Annotated[str, AfterValidator(check_service_name)], ServiceSettings] = {}

    @model_validator(mode="after")
    def check_services(self) -> Self:
        mistakes, owners = [], dict[str, str]()
        for name, service in self.services.items():
            if name in RESERVED_SERVICE_NAMES:
                mistakes.append(f"services.{name}: this name is the gateway's own")
            if other := owners.get(service.prefix):
                mistakes.append(f"services.{name}.prefix: {service.prefix!r} belongs to services.{other} already")
            owners[service.prefix] = name
            first_segment = "/" + service.prefix.split("/")[1]
            if first_segment != "/" and first_segment in RESERVED_PATHS:
                mistakes.append(f"services.{name}.prefix: {first_segment!r} is the gateway's own")
        if not self.services:
            mistakes.append("services: there is none; add a [services.NAME] table or leave default_services on")
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self
