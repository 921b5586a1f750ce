"""What can be configured: frozen models, each default standing here once, unknown keys refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PlainValidator, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from gateway.config.address_validators import (
    check_bind,
    check_collector,
    check_host_pattern,
    check_network,
    check_origin,
)
from gateway.config.base import Model, Seconds, Text, refuse
from gateway.config.redis_url import check_redis_prefix, check_redis_url
from gateway.config.service_models import (
    Limit,
    LimitsMode,
    OnRedisFailure,
    Plans,
    ServiceSettings,
    TokenPolicy,
    cost_mistakes,
    texts_of,
)
from gateway.config.sizes import Bytes
from gateway.config.token_models import File, IdentitySettings, JwtSettings, RevocationSettings
from gateway.config.validators import (
    check_field_name,
    check_field_value,
    check_folder_of,
    check_hidden_path,
    check_method,
    check_service_name,
    check_worker,
)
from gateway.system.cpus import usable_cpus

FieldName = Annotated[str, AfterValidator(check_field_name)]
Method = Annotated[str, AfterValidator(check_method)]

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
    private_network: bool = False

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
    """LimitSets where a service or route has no `limits` of its own, and what happens without Redis. `plans` are limits
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
    """What stands in front of the gateway: how many proxies, and by which fields they tell of the client."""

    trusted_hops: Annotated[int, Field(ge=0, le=10)] = 0
    forwarding_fields: Literal["x-forwarded", "forwarded"] = "x-forwarded"


class DocsSettings(Model):
    """The API document of all services, and the page for it. `hidden` are patterns of paths that it does not tell."""

    enabled: bool = True
    auth: TokenPolicy = "none"
    title: Text = "API"
    refresh_seconds: Annotated[float, Field(ge=1, le=86400)] = 60
    max_bytes: Annotated[Bytes, Field(ge=1024, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    hidden: tuple[Annotated[str, AfterValidator(check_hidden_path)], ...] = ()


class LogSettings(Model):
    """The access log. `file`: standard output without one. `sample_successes` is the share of requests with a status
    below 400 that is logged; all others always are."""

    file: Annotated[Path, AfterValidator(check_folder_of)] | None = None
    format: Literal["auto", "json", "text"] = "auto"
    sample_successes: Annotated[float, Field(ge=0, le=1)] = 1
    query: bool = False
    principal: Literal["subject", "hash", "none"] = "subject"


class AdminSettings(Model):
    """Who may read what is for operators: addresses and networks of the connection's own peer."""

    allow: tuple[Annotated[str, AfterValidator(check_network)], ...] = ("127.0.0.0/8", "::1")


class TracingSettings(Model):
    """Traces that requests are part of. `sample_ratio` is for those that start here. With `otlp_endpoint`, where
    /v1/traces is of a collector, spans are sent there, with `headers`."""

    propagate: bool = True
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1
    otlp_endpoint: Annotated[str, AfterValidator(check_collector)] | None = None
    service_name: Text = "gateway"
    headers: dict[FieldName, Annotated[SecretStr, AfterValidator(check_field_value)]] = Field(default={})

    @model_validator(mode="after")
    def check_together(self) -> Self:
        mistakes = []
        if self.otlp_endpoint is not None and not self.propagate:
            mistakes.append("otlp_endpoint: goes with propagate = true")
        if self.headers and self.otlp_endpoint is None:
            mistakes.append("headers: goes with otlp_endpoint")
        refuse(mistakes)
        return self


class ServerSettings(Model):
    """How gunicorn serves. `bind` and `workers` follow PORT and WEB_CONCURRENCY where those are set."""

    bind: Annotated[str | tuple[str, ...], PlainValidator(check_bind)] = "127.0.0.1:8000"
    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    worker: Annotated[str, AfterValidator(check_worker)] = "gevent"
    allowed_hosts: tuple[Annotated[str, AfterValidator(check_host_pattern)], ...] = ()
    connections_per_worker: Annotated[int, Field(ge=1, le=100_000)] = 2000
    connections_per_client: Annotated[int, Field(ge=0, le=100_000)] = 0
    keepalive_seconds: Annotated[int, Field(ge=1, le=600)] = 15
    max_head_bytes: Annotated[Bytes, Field(ge=8192, le=1024 * 1024)] = 64 * 1024
    client_timeout_seconds: Seconds = 30
    body_timeout_seconds: Annotated[float, Field(ge=0, le=86400)] = 3600
    min_body_bytes_per_second: Annotated[Bytes, Field(ge=0, le=1_000_000_000)] = 128
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 0
    graceful_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    max_worker_memory_mib: Annotated[int, Field(ge=64, le=1_000_000)] | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens; one at least."""
        return (self.bind,) if isinstance(self.bind, str) else self.bind

    @property
    def worker_count(self) -> int:
        """`workers`, else one per processor that may be used, and two at least: one that dies must not be the only
        one."""
        return self.workers or max(2, usable_cpus())

    @model_validator(mode="after")
    def check_together(self) -> Self:
        mistakes = []
        if self.drain_seconds and self.drain_seconds >= self.graceful_timeout_seconds:
            mistakes.append("drain_seconds must be less than graceful_timeout_seconds, which it is a part of")
        if self.connections_per_client > self.connections_per_worker:
            most = self.connections_per_worker
            mistakes.append(f"connections_per_client: is over connections_per_worker, which is {most}")
        refuse(mistakes)
        return self


def check_any_service(services: dict[str, ServiceSettings]) -> dict[str, ServiceSettings]:
    if not services:
        raise PydanticCustomError(
            "no_services", "there is none; add a [services.NAME] table or leave default_services on"
        )
    return services


class Settings(Model):
    """The whole configuration."""

    redis_url: Annotated[SecretStr, AfterValidator(check_redis_url)] | None = None
    redis_url_file: File | None = None
    redis_prefix: Annotated[str, AfterValidator(check_redis_prefix)] = ""
    redis_timeout_seconds: Annotated[float, Field(ge=0.01, le=5)] = 0.1
    default_services: bool = True
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
        dict[Annotated[str, AfterValidator(check_service_name)], ServiceSettings],
        AfterValidator(check_any_service),
        Field(validate_default=True),
    ] = Field(default={})

    @model_validator(mode="after")
    def check_revocation(self) -> Self:
        # A token that outlives its revocation is good again.
        longest = max((one.lifetime_seconds or 0 for one in (self.jwt, *self.jwt.issuers)), default=0)
        longest = math.ceil(max(longest, self.jwt.max_lifetime_seconds or 0) + self.jwt.leeway_seconds)
        if self.revocation.enabled and self.revocation.keep_seconds < longest:
            refuse([f"revocation.keep_seconds: must be at least {longest}, as tokens may live for so long"])
        return self

    @model_validator(mode="after")
    def check_services(self) -> Self:
        mistakes, owners = [], dict[str, str]()
        for name, service in self.services.items():
            if name in RESERVED_SERVICE_NAMES:
                mistakes.append(f"services.{name}: this name is the gateway's own")
            for label, prefix in service.labelled_prefixes():
                # Prefixes of one service within each other are told with the service.
                if (other := owners.get(prefix)) and other != name:
                    mistakes.append(f"services.{name}.{label}: {prefix!r} belongs to services.{other} already")
                owners.setdefault(prefix, name)
        for name, service in self.services.items():
            for label, path in [*service.labelled_prefixes(), *service.labelled_paths()]:
                first_segment = "/" + path.split("/")[1]
                # A route's path begins like its prefix, which has been told then. Below /openapi any name may be that
                # of a service; elsewhere the gateway has a few names, which come before all routes.
                is_own = "/" in service.all_prefixes and first_segment in (path, "/openapi")
                if first_segment in RESERVED_PATHS and (label.startswith("prefix") or is_own):
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
