"""What can be configured about a service and its routes: who may call, how often, and how it is reached."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from gateway.config.address_validators import check_authority, check_target
from gateway.config.base import Model, Scope, Seconds, Text, changed_fields, refuse
from gateway.config.limit_text import check_limit, parse_limits
from gateway.config.sizes import Bytes
from gateway.config.token_models import File
from gateway.config.validators import (
    PLACEHOLDER,
    check_document_path,
    check_drift_rule,
    check_own_path,
    check_prefix,
    check_route_method,
    check_route_path,
)

Limit = Annotated[str, AfterValidator(check_limit)]
RouteMethod = Annotated[str, AfterValidator(check_route_method)]
TokenPolicy = Literal["required", "none"]
LimitsMode = Literal["enforce", "observe"]
OnRedisFailure = Literal["local", "open", "closed"]
# Whose counter a request takes from: that of its principal, if it has one, or always that of its address.
CountBy = Literal["principal", "address"]
# What happens to requests for operations that the service's API document does not have.
Undocumented = Literal["allow", "log", "refuse"]
Plans = dict[Text, tuple[Limit, ...]]
# What a request takes from its limits; nothing at all with 0.
Cost = Annotated[int, Field(ge=0, le=1_000_000)]

# Of `max_in_flight`.
Share = Annotated[float, Field(gt=0, le=1)]


class RouteSettings(Model):
    """A narrower path with its own policy. What it leaves out it takes from its service."""

    path: Annotated[str, AfterValidator(check_route_path)]
    methods: tuple[RouteMethod, ...] = ()
    auth: TokenPolicy | None = None
    scopes: tuple[Scope, ...] | None = None
    limits: tuple[Limit, ...] | None = None
    plans: Plans | None = None
    cost: Cost | None = None
    count_by: CountBy | None = None
    limits_mode: LimitsMode | None = None
    on_redis_failure: OnRedisFailure | None = None
    connect_timeout_seconds: Seconds | None = None
    read_timeout_seconds: Seconds | None = None
    head_timeout_seconds: Seconds | None = None
    undocumented: Undocumented | None = None
    redact: tuple[str, ...] = ()

    @model_validator(mode="after")
    def check_redact(self) -> Self:
        names = [*PLACEHOLDER.findall(self.path), *(["path"] if self.path.endswith("/**") else [])]
        wrong = [name for name in self.redact if name not in names]
        refuse(
            [
                f"redact: {name!r} is none of the path's placeholders ({', '.join(names) or 'it has none'})"
                for name in wrong
            ]
        )
        return self


class BreakerSettings(Model):
    """When a target is left alone for a while: after so many failures in a row, or where in the last `window_seconds`
    so large a share of at least `min_requests` failed. Each time that it fails again it is left alone twice as long."""

    failures: Annotated[int, Field(ge=0)] = 5
    failure_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    window_seconds: Seconds = 10
    min_requests: Annotated[int, Field(ge=1)] = 20
    open_seconds: Seconds = 1
    max_open_seconds: Seconds = 30

    @model_validator(mode="after")
    def check_together(self) -> Self:
        if self.open_seconds > self.max_open_seconds:
            refuse(
                [f"open_seconds: {self.open_seconds:g} is over max_open_seconds, which is {self.max_open_seconds:g}"]
            )
        return self


class HealthSettings(Model):
    """Whether targets are asked if they are well, at `path` (none: they are not); `min_available` of them are taken for
    well whatever they answer, as the question may be what is wrong."""

    path: Annotated[str, AfterValidator(check_own_path)] | None = None
    interval_seconds: Seconds = 10
    timeout_seconds: Seconds = 2
    unhealthy_after: Annotated[int, Field(ge=1, le=100)] = 3
    healthy_after: Annotated[int, Field(ge=1, le=100)] = 2
    min_available: Annotated[int, Field(ge=0, le=1000)] = 1

    @model_validator(mode="after")
    def check_together(self) -> Self:
        if self.path is None:
            refuse([f"{name}: goes with path, without which nothing is asked" for name in changed_fields(self)])
        return self


class ServiceSettings(Model):
    """One service behind the gateway: everything at and below `prefix`, and `prefixes`."""

    prefix: Annotated[str, AfterValidator(check_prefix)]
    prefixes: tuple[Annotated[str, AfterValidator(check_prefix)], ...] = ()
    target_prefix: Annotated[str, AfterValidator(check_prefix)] | None = None
    targets: Annotated[tuple[Annotated[str, AfterValidator(check_target)], ...], Field(min_length=1)]
    auth: TokenPolicy = "required"
    scopes: tuple[Scope, ...] = ()
    limits: tuple[Limit, ...] = ()
    plans: Plans = Field(default={})
    cost: Cost = 1
    count_by: CountBy = "principal"
    limits_mode: LimitsMode | None = None
    on_redis_failure: OnRedisFailure | None = None
    routes: tuple[RouteSettings, ...] = ()
    strip_prefix: bool = False
    host: Annotated[str, AfterValidator(check_authority)] | None = None
    preserve_host: bool = False
    encoded_slashes: Literal["refuse", "forward"] = "refuse"
    weights: tuple[Annotated[int, Field(ge=0, le=10_000)], ...] = ()
    balancing: Literal["least", "round_robin", "principal"] = "least"
    connect_timeout_seconds: Seconds = 2
    read_timeout_seconds: Seconds = 30
    head_timeout_seconds: Seconds | None = None
    retries: Annotated[int, Field(ge=0, le=5)] = 1
    retry_budget: Annotated[float, Field(ge=0, le=1)] = 0.2
    breaker: BreakerSettings = BreakerSettings()
    health: HealthSettings = HealthSettings()
    max_body_bytes: Annotated[Bytes, Field(ge=0)] = 100 * 1024 * 1024
    max_in_flight: Annotated[int, Field(ge=1)] = 400
    max_in_flight_per_caller: Share = 1
    max_uploads_in_flight: Share = 0.5
    max_uploads_in_flight_per_caller: Share = 0.25
    max_in_flight_per_target: Annotated[int, Field(ge=1)] | None = None
    keepalive_connections: Annotated[int, Field(ge=0, le=10_000)] = 100
    keepalive_idle_seconds: Seconds = 1.5
    openapi_path: Annotated[str, AfterValidator(check_document_path)] = "/openapi.json"
    in_docs: bool = True
    drift_ignore: tuple[Annotated[str, AfterValidator(check_drift_rule)], ...] = ()
    undocumented: Undocumented = "allow"
    ca_file: File | None = None
    client_certificate_file: File | None = None
    client_key_file: File | None = None

    @property
    def all_prefixes(self) -> tuple[str, ...]:
        return (self.prefix, *self.prefixes)

    def labelled_prefixes(self) -> Iterator[tuple[str, str]]:
        """Each prefix as it is named in a mistake, and the prefix."""
        yield "prefix", self.prefix
        for index, prefix in enumerate(self.prefixes):
            yield f"prefixes[{index}]", prefix

    def placements(self, path: str) -> Iterator[tuple[str, str]]:
        """The prefixes below which a route's path has its policy, each with the path there. Where prefixes lead to the
        same paths of the service, all of them, so that none is a way around the policy; else the path's own."""
        own = next((prefix for prefix in self.all_prefixes if is_within_prefix(path, prefix)), None)
        if own is None:
            return
        rest = path[len(own.rstrip("/")) :]
        is_moved = self.strip_prefix or self.target_prefix is not None
        for prefix in self.all_prefixes if is_moved else (own,):
            yield prefix, prefix.rstrip("/") + rest or "/"

    def labelled_paths(self) -> Iterator[tuple[str, str]]:
        """Each route's path as it is named in a mistake, below each prefix, and without its /**."""
        for index, route in enumerate(self.routes):
            for _, path in self.placements(route.path):
                yield f"routes[{index}].path", path.removesuffix("/**") or "/"

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
        mistakes = self.mistakes_about_prefixes() + self.mistakes_about_routes()
        if self.auth == "none" and self.scopes:
            mistakes.append('auth: "none" can\'t be combined with scopes')
        if not self.openapi_path:
            modes = {"": self.undocumented} | {f"routes[{i}].": one.undocumented for i, one in enumerate(self.routes)}
            why = 'has no effect with openapi_path = "", which says that there is no document'
            mistakes += [f'{at}undocumented: "{mode}" {why}' for at, mode in modes.items() if mode in ("log", "refuse")]
            mistakes += [f"drift_ignore: {why}"] if self.drift_ignore else []
        if self.preserve_host and self.host is not None:
            mistakes.append("host: can't be combined with preserve_host = true, which sends the client's")
        mistakes += self.mistakes_about_targets()
        if self.weights and len(self.weights) != len(self.targets):
            mistakes.append(f"weights: {len(self.weights)} for {len(self.targets)} targets")
        elif self.weights and not any(self.weights):
            mistakes.append("weights: are all 0")
        if (self.client_certificate_file is None) != (self.client_key_file is None):
            mistakes.append("client_certificate_file and client_key_file go together")
        if (self.ca_file or self.client_certificate_file) and not any(one.startswith("https:") for one in self.targets):
            mistakes.append("targets: none is https, but there is a ca_file or client_certificate_file")
        refuse(mistakes)
        return self

    def mistakes_about_prefixes(self) -> list[str]:
        mistakes = []
        for index, prefix in enumerate(self.prefixes):
            if other := next((one for one in self.all_prefixes[: index + 1] if are_nested(prefix, one)), None):
                mistakes.append(f"prefixes[{index}]: {prefix!r} and {other!r} lie within each other")
        if self.target_prefix is not None and self.strip_prefix:
            mistakes.append("target_prefix: can't be combined with strip_prefix = true")
        elif self.target_prefix is not None and self.all_prefixes == (self.target_prefix,):
            mistakes.append("target_prefix: is the prefix itself")
        return mistakes

    def mistakes_about_routes(self) -> list[str]:
        mistakes, seen = [], set()
        for index, route in enumerate(self.routes):
            placements = list(self.placements(route.path))
            if not placements:
                prefixes = " or ".join(map(repr, self.all_prefixes))
                mistakes.append(f"routes[{index}].path: {route.path!r} is not below the prefix {prefixes}")
            for _, path in placements:
                # Placeholders are told apart by where they stand, not by their names.
                shape = PLACEHOLDER.sub("{}", path)
                for method in route.methods or ("any method",):
                    if (shape, method) in seen:
                        mistakes.append(f"routes[{index}].path: {path!r} has a policy for {method} already")
                    seen.add((shape, method))
            auth = route.auth or self.auth
            if auth == "none" and (route.scopes or (route.scopes is None and self.scopes)):
                mistakes.append(f'routes[{index}].auth: "none" can\'t be combined with scopes; set scopes = []')
        return mistakes

    def mistakes_about_targets(self) -> list[str]:
        mistakes, seen = [], dict[tuple[str, str, int | None, str], str]()
        for index, target in enumerate(self.targets):
            if (other := seen.setdefault(same_target(target), target)) is not target:
                mistakes.append(f"targets[{index}]: {target!r} is {other!r} again; weights make one get more requests")
        count = len(self.targets)
        if self.health.min_available > count:
            mistakes.append(f"health.min_available: {self.health.min_available} of {count} targets")
        if (most := self.max_in_flight_per_target) is not None and most > self.max_in_flight:
            mistakes.append(f"max_in_flight_per_target: {most} is over max_in_flight, which is {self.max_in_flight}")
        name, all_uploads = "max_uploads_in_flight_per_caller", self.max_uploads_in_flight
        if name in changed_fields(self) and self.max_uploads_in_flight_per_caller > all_uploads:
            mistakes.append(f"{name}: is over max_uploads_in_flight, which is {all_uploads:g}")
        return mistakes


def is_within_prefix(path: str, prefix: str) -> bool:
    """Whether a route's path, which may end in /**, is at or below the prefix."""
    return (path.removesuffix("/**") or "/") == prefix or path.startswith(prefix.rstrip("/") + "/")


def are_nested(one: str, other: str) -> bool:
    return is_within_prefix(one, other) or is_within_prefix(other, one)


def same_target(target: str) -> tuple[str, str, int | None, str]:
    """Equal for URLs of one place, however they are written."""
    parts = urlsplit(target)
    default_port = 443 if parts.scheme == "https" else 80
    return parts.scheme, (parts.hostname or "").removesuffix("."), parts.port or default_port, parts.path


def texts_of(plans: dict[str, tuple[str, ...]] | None) -> list[str]:
    return [text for texts in (plans or {}).values() for text in texts]


def cost_mistakes(label: str, cost: int, texts: Iterable[str]) -> list[str]:
    """A cost that is more than a limit could ever have to give."""
    small = [limit.text for text in texts for limit in parse_limits(text) if limit.capacity < cost]
    return [f"{label}: {cost} is more than {text!r} could ever let pass" for text in dict.fromkeys(small)]
