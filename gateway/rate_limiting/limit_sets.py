"""Which limits apply to a caller of a route, and the keys of their counters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote

from gateway.config import RateLimitSettings
from gateway.config.limit_syntax import LimitSpec, parse_limits
from gateway.rate_limiting.models import LimitCheck
from gateway.route_policy import RoutePolicy
from gateway.tokens.principal import HEADER_SAFE, Principal, claim_at, quoted

DEFAULT, ANONYMOUS = "default", "anonymous"
BY_CALLER = ("principal",)
# Prefix of the counters of the gateway's own limits: a service may be called "default", too.
OWN = "gateway:"
# Characters that need no escape in a string of a structured field (RFC 8941 3.3.3).
FIELD_SAFE = HEADER_SAFE.replace('"', "").replace("\\", "")


@dataclass(slots=True)
class Caller:
    """Who sends a request, and to which route. `address` is the client's IPv4 address or IPv6 network."""

    principal: Principal | None
    address: str
    headers: Sequence[tuple[str, str]]
    service: str
    route: str

    @property
    def key(self) -> str:
        """Identifies the caller: by principal, else by address."""
        return self.principal.key if self.principal is not None else f"address:{self.address}"

    def value(self, dimension: str) -> str:
        """The caller's value in one dimension of a limit's `by`: callers with the same value share a counter. A caller
        without the header or claim is counted by principal or address: omitting a header must not give anybody a second
        limit."""
        if dimension == "address":
            return f"address:{self.address}"
        if dimension == "service":
            return f"service:{self.service}"
        if dimension == "route":
            return f"route:{self.route}"
        kind, _, name = dimension.partition(":")
        if kind == "header":
            values = [value for key, value in self.headers if key.lower() == name.lower()]
            return f"{dimension}={quoted(','.join(values))}" if values else self.key
        if kind == "claim" and self.principal is not None:
            value = claim_text(self.principal, name)
            return f"{dimension}={quoted(self.principal.issuer)}:{quoted(value)}" if value is not None else self.key
        return self.key


@dataclass(frozen=True, slots=True)
class NamedLimit:
    """One limit. Clients see `name` in response headers; `key` is the part of the counter's key before the caller."""

    name: str
    key: str
    spec: LimitSpec


@dataclass(frozen=True)
class LimitSet:
    """Limits that a request has to pass together: it is charged to all of them or to none."""

    limits: tuple[NamedLimit, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(limit.name for limit in self.limits)

    def checks_for(self, caller: Caller, cost: int) -> list[LimitCheck]:
        """One check per limit. A cost above a limit's capacity is lowered to the capacity: requests without a token to
        a costly route count against the smaller anonymous limit, and would never pass otherwise."""
        caller_key = caller.key
        checks = []
        for limit in self.limits:
            spec = limit.spec
            key = caller_key if spec.by == BY_CALLER else "|".join(map(caller.value, spec.by))
            charged = min(cost, spec.capacity)
            checks.append(
                LimitCheck(f"{limit.key}|{key}", spec.amount, spec.window_seconds, charged, spec.algorithm, spec.burst)
            )
        return checks

    def partition_key(self, caller: Caller) -> str:
        """A text that selects the cluster partition of the counters. Callers that share a counter get the same text."""
        shared = self.shared_dimensions
        return "|".join(map(caller.value, shared)) if shared else self.limits[0].key

    @cached_property
    def shared_dimensions(self) -> tuple[str, ...]:
        """The dimensions that all limits have, sorted."""
        first, *others = (set(limit.spec.by) for limit in self.limits)
        return tuple(sorted(first.intersection(*others)))


def make_limit_set(name: str, texts: Sequence[str], plan: str | None = None, namespace: str = "") -> LimitSet:
    """Parses limits and names them: `name`, or `name.plan` for the limits of a plan. The names of several limits end
    with the seconds of their windows, and those of limits with the same window also with numbers. `namespace` separates
    the counters from counters of limits elsewhere that have the same name."""
    counters = namespace + name if plan is None else f"{namespace}{name}:{quoted(plan)}"
    if plan is not None:
        name = f"{name}.{quote(plan, safe=FIELD_SAFE)}"
    specs = [spec for text in texts for spec in parse_limits(text)]
    limits: list[NamedLimit] = []
    for spec in specs:
        unique = name if len(specs) == 1 else f"{name}-{spec.window_seconds}"
        same = sum(limit.name == unique or limit.name.startswith(f"{unique}-") for limit in limits)
        key = f"{counters}|{spec.window_seconds}|{spec.algorithm}|{'+'.join(spec.by)}"
        key += "|again" * sum(limit.key.removesuffix("|again") == key for limit in limits)
        limits.append(NamedLimit(f"{unique}-{same + 1}" if same else unique, key, spec))
    return LimitSet(tuple(limits))


class LimitSets:
    """The limit sets of the configuration, made once per policy and plan. `only_issuer` is the name of the only issuer,
    empty if it has no name or there are several."""

    def __init__(self, settings: RateLimitSettings, policies: Iterable[RoutePolicy], only_issuer: str = "") -> None:
        levels = [level for policy in policies for level in policy.rate_limit.levels]
        self._plan_names = frozenset(settings.plans).union(*(level.plans for level in levels))
        self._anonymous = make_limit_set(ANONYMOUS, [settings.anonymous], namespace=OWN)
        self._default = make_limit_set(DEFAULT, [settings.default], namespace=OWN)
        self._default_by_plan = {
            plan: make_limit_set(DEFAULT, texts, plan=plan, namespace=OWN) for plan, texts in settings.plans.items()
        }
        self._plan_claim = settings.plan_claim
        self._exempt_principals = frozenset(settings.exempt_principals)
        self._only_issuer = only_issuer
        self._cached: dict[tuple[str, str | None], LimitSet | None] = {}

    def is_exempt(self, principal: Principal) -> bool:
        """Whether no limit applies to this caller. With several issuers, `exempt_principals` also names the issuer."""
        if not self._exempt_principals:
            return False
        if principal.issuer == self._only_issuer and principal.subject in self._exempt_principals:
            return True
        return f"{principal.issuer} {principal.subject}" in self._exempt_principals

    def limit_set_for(self, policy: RoutePolicy, principal: Principal | None) -> LimitSet:
        """The limits of the innermost level (route, service, gateway) that has any for this caller."""
        if principal is None and policy.needs_token:
            return self._anonymous
        plan = self._plan_of(principal)
        key = (policy.name, plan)
        if key not in self._cached:
            # The cache can't grow without end: `plan` is one of the configured names.
            self._cached[key] = own_limit_set(policy, plan)
        limit_set = self._cached[key]
        if limit_set is not None:
            return limit_set
        if principal is None:
            return self._anonymous
        return self._default if plan is None else self._default_by_plan.get(plan, self._default)

    def _plan_of(self, principal: Principal | None) -> str | None:
        if principal is None or not self._plan_names:
            return None
        plan = claim_at(principal.claims, self._plan_claim)
        return plan if isinstance(plan, str) and plan in self._plan_names else None


def own_limit_set(policy: RoutePolicy, plan: str | None) -> LimitSet | None:
    """The limits that the route or its service has for callers on this plan; None for the gateway's defaults."""
    for level in policy.rate_limit.levels:
        if plan is not None and plan in level.plans:
            return make_limit_set(level.name, level.plans[plan], plan=plan)
        if level.limits:
            return make_limit_set(level.name, level.limits)
    return None


def claim_text(principal: Principal, path: str) -> str | None:
    """A claim as a text; different values have different texts. None if the token does not have the claim."""
    value = claim_at(principal.claims, path)
    if value is None:
        return None
    try:
        return json.dumps(value, sort_keys=True)
    except (RecursionError, ValueError):
        # Nested too deeply to serialize; the caller is counted as if it had no such claim.
        return None
