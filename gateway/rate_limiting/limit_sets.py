"""Which limits hold for a caller at a policy, and under which keys they are counted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote

from gateway.config import RateLimitSettings
from gateway.config.limit_text import LimitText, parse_limits
from gateway.rate_limiting.models import LimitCheck
from gateway.route_policy import RoutePolicy
from gateway.tokens.principal import HEADER_SAFE, Principal, claim_at, quoted

DEFAULT, ANONYMOUS = "default", "anonymous"
CALLER = ("principal",)
# Before the names of the gateway's own limits where they are counted: a service may be called "default", too.
OWN = "gateway:"
# What may stand in a quoted text of a structured field as it is (RFC 8941 3.3.3).
FIELD_SAFE = HEADER_SAFE.replace('"', "").replace("\\", "")


@dataclass(slots=True)
class Caller:
    """Who takes from a quota, at which policy. `address` is the client's, of IPv6 its network."""

    principal: Principal | None
    address: str
    fields: Sequence[tuple[str, str]]
    service: str
    route: str

    @property
    def key(self) -> str:
        """The principal, else the address."""
        return self.principal.key if self.principal is not None else f"address:{self.address}"

    def value(self, dimension: str) -> str:
        """What tells callers apart in this dimension. One who leaves out the header or has no such claim is counted by
        the principal or address: to leave it out must not be a way to more."""
        if dimension == "address":
            return f"address:{self.address}"
        if dimension == "service":
            return f"service:{self.service}"
        if dimension == "route":
            return f"route:{self.route}"
        kind, _, name = dimension.partition(":")
        if kind == "header":
            values = [value for key, value in self.fields if key.lower() == name.lower()]
            return f"{dimension}={quoted(','.join(values))}" if values else self.key
        if kind == "claim" and self.principal is not None:
            value = claim_text(self.principal, name)
            return f"{dimension}={quoted(self.principal.issuer)}:{quoted(value)}" if value is not None else self.key
        return self.key


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit, `name` being what clients are told; `key` comes before what tells its callers apart."""

    name: str
    key: str
    limit: LimitText


@dataclass(frozen=True)
class LimitSet:
    """Limits that are counted together: a request passes all of them or takes from none."""

    rules: tuple[Rule, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(rule.name for rule in self.rules)

    def checks_for(self, caller: Caller, cost: int) -> list[LimitCheck]:
        """What a request takes from each limit. Of one that has not so much to give, it takes all: without a token, a
        costly route is asked of the limit for all such requests, and must not be out of reach for ever."""
        caller_key = caller.key
        checks = []
        for rule in self.rules:
            limit = rule.limit
            key = caller_key if limit.by == CALLER else "|".join(map(caller.value, limit.by))
            taken = min(cost, limit.capacity)
            checks.append(
                LimitCheck(f"{rule.key}|{key}", limit.amount, limit.window_seconds, taken, limit.algorithm, limit.burst)
            )
        return checks

    def partition_key(self, caller: Caller) -> str:
        """What decides about the partition: always the same for each of the counters, whoever takes from it."""
        shared = self.shared_dimensions
        return "|".join(map(caller.value, shared)) if shared else self.rules[0].key

    @cached_property
    def shared_dimensions(self) -> tuple[str, ...]:
        """Those that all limits tell callers apart by, in one order."""
        first, *others = (set(rule.limit.by) for rule in self.rules)
        return tuple(sorted(first.intersection(*others)))


def make_limit_set(name: str, texts: Sequence[str], plan: str | None = None, space: str = "") -> LimitSet:
    """The limits of these texts, counted under `name`, and those of a `plan` apart from others; several are told apart
    by their windows, and by numbers where those are the same. `space` keeps what is counted apart from the same name
    elsewhere."""
    counted = space + name if plan is None else f"{space}{name}:{quoted(plan)}"
    if plan is not None:
        name = f"{name}.{quote(plan, safe=FIELD_SAFE)}"
    limits = [limit for text in texts for limit in parse_limits(text)]
    rules: list[Rule] = []
    for limit in limits:
        told = name if len(limits) == 1 else f"{name}-{limit.window_seconds}"
        taken = sum(rule.name == told or rule.name.startswith(f"{told}-") for rule in rules)
        key = f"{counted}|{limit.window_seconds}|{limit.algorithm}|{'+'.join(limit.by)}"
        key += "|again" * sum(rule.key.removesuffix("|again") == key for rule in rules)
        rules.append(Rule(f"{told}-{taken + 1}" if taken else told, key, limit))
    return LimitSet(tuple(rules))


class LimitSets:
    """The plans of the configuration, made once for each policy and kind of caller. `only_issuer` is the name of the
    issuer where there is one, empty where that has none or there are several."""

    def __init__(self, settings: RateLimitSettings, policies: Iterable[RoutePolicy], only_issuer: str = "") -> None:
        levels = [level for policy in policies for level in policy.rate_limit.levels]
        self._plan_names = frozenset(settings.plans).union(*(level.plans for level in levels))
        self._anonymous = make_limit_set(ANONYMOUS, [settings.anonymous], space=OWN)
        self._default = make_limit_set(DEFAULT, [settings.default], space=OWN)
        self._default_plans = {
            name: make_limit_set(DEFAULT, texts, plan=name, space=OWN) for name, texts in settings.plans.items()
        }
        self._plan_claim = settings.plan_claim
        self._exempt_principals = frozenset(settings.exempt_principals)
        self._only_issuer = only_issuer
        self._known: dict[tuple[str, str | None], LimitSet | None] = {}

    def is_exempt(self, principal: Principal) -> bool:
        """Whether limits don't hold for this caller. Of several issuers' subjects, the issuer has to be named, too."""
        if not self._exempt_principals:
            return False
        if principal.issuer == self._only_issuer and principal.subject in self._exempt_principals:
            return True
        return f"{principal.issuer} {principal.subject}" in self._exempt_principals

    def limit_set_for(self, policy: RoutePolicy, principal: Principal | None) -> LimitSet:
        """The limits of the innermost level that has any for this caller."""
        if principal is None and policy.needs_token:
            return self._anonymous
        name = self._plan_name(principal)
        key = (policy.name, name)
        if key not in self._known:
            # Only names that are configured get here, so this stays small.
            self._known[key] = own_limit_set(policy, name)
        limit_set = self._known[key]
        if limit_set is not None:
            return limit_set
        if principal is None:
            return self._anonymous
        return self._default if name is None else self._default_plans.get(name, self._default)

    def _plan_name(self, principal: Principal | None) -> str | None:
        if principal is None or not self._plan_names:
            return None
        name = claim_at(principal.claims, self._plan_claim)
        return name if isinstance(name, str) and name in self._plan_names else None


def own_limit_set(policy: RoutePolicy, name: str | None) -> LimitSet | None:
    """The limits that the policy itself, or what is around it, has for callers on a plan (None: on no plan)."""
    for level in policy.rate_limit.levels:
        if name is not None and name in level.plans:
            return make_limit_set(level.name, level.plans[name], plan=name)
        if level.limits:
            return make_limit_set(level.name, level.limits)
    return None


def claim_text(principal: Principal, path: str) -> str | None:
    """A claim's value as a text that no other value has; None where there is none."""
    value = claim_at(principal.claims, path)
    if value is None:
        return None
    try:
        return json.dumps(value, sort_keys=True)
    except (RecursionError, ValueError):
        # Nested too deeply to be written: nobody's plan says that.
        return None
