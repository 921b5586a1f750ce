"""Which limits apply to a caller, and which callers share a counter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rate_limiting.limit_sets import Caller, LimitSets, make_limit_set
from gateway.route_policy import policies_of
from gateway.tokens.principal import Principal
from tests.support.configuration import devices, loaded


def principal(subject: str = "ada", issuer: str = "", **claims: Any) -> Principal:
    return Principal(subject, issuer, None, None, frozenset(), 2e9, {"sub": subject, **claims}, ())


def caller(
    who: Principal | None = None,
    address: str = "203.0.113.9",
    fields: Sequence[tuple[str, str]] = (),
    service: str = "devices",
    route: str = "devices.a",
) -> Caller:
    return Caller(who, address, fields, service, route)


def keys(text: str, one: Caller) -> list[str]:
    return [check.key for check in make_limit_set("default", [text]).checks_for(one, 1)]


def are_counted_together(text: str, one: Caller, other: Caller) -> bool:
    return keys(text, one) == keys(text, other)


ADA, BOB = principal("ada", tenant="acme"), principal("bob", tenant="acme")


@pytest.mark.parametrize(
    ("text", "one", "other", "are_shared"),
    [
        ("1/day", caller(ADA), caller(ADA, "198.51.100.1", service="rules"), True),
        ("1/day", caller(ADA), caller(BOB), False),
        ("1/day", caller(), caller(address="198.51.100.1"), False),
        ("1/day by address", caller(ADA), caller(BOB), True),
        ("1/day by address", caller(ADA), caller(ADA, "198.51.100.1"), False),
        ("1/day by service", caller(ADA), caller(BOB, "198.51.100.1"), True),
        ("1/day by service", caller(ADA), caller(ADA, service="rules"), False),
        ("1/day by route", caller(ADA), caller(BOB), True),
        ("1/day by route", caller(ADA), caller(ADA, route="devices.b"), False),
        ("1/day by principal+service", caller(ADA), caller(ADA, service="rules"), False),
        ("1/day by principal+service", caller(ADA), caller(ADA, "198.51.100.1"), True),
        ("1/day by claim:tenant", caller(ADA), caller(BOB), True),
        ("1/day by claim:tenant", caller(ADA), caller(principal("eve", tenant="other")), False),
        # Tenants of two issuers are different tenants.
        ("1/day by claim:tenant", caller(ADA), caller(principal("ada", "https://b.test", tenant="acme")), False),
        # A caller without the claim or header is counted by principal.
        ("1/day by claim:tenant", caller(principal("ada")), caller(principal("bob")), False),
        ("1/day by claim:tenant", caller(principal("ada")), caller(principal("ada"), service="rules"), True),
        ("1/day by header:X-Key", caller(ADA), caller(BOB), False),
        ("1/day by header:X-Key", caller(ADA, fields=[("x-key", "k")]), caller(BOB, fields=[("X-KEY", "k")]), True),
        ("1/day by header:X-Key", caller(ADA, fields=[("X-Key", "k")]), caller(ADA, fields=[("X-Key", "l")]), False),
    ],
)
def test_which_callers_share_a_counter(text: str, one: Caller, other: Caller, are_shared: bool) -> None:
    assert are_counted_together(text, one, other) is are_shared


texts = st.text(max_size=8) | st.text(st.sampled_from("|:=%+ae"), max_size=8)


@given(texts, texts, texts, texts)
def test_no_value_can_imitate_another(subject: str, tenant: str, other: str, other_tenant: str) -> None:
    text = "1/day by claim:tenant+principal+header:X-Key"
    one = caller(principal(subject, tenant=tenant), fields=[("X-Key", other)])
    two = caller(principal(other, tenant=other_tenant), fields=[("X-Key", subject)])
    assert are_counted_together(text, one, two) is ((subject, tenant) == (other, other_tenant))


@pytest.mark.parametrize("value", [["a", "b"], {"a": 1}, 1, 1.5, True, "1", None, float("nan")])
def test_claims_of_any_type_have_their_own_counters(value: Any) -> None:
    others = [["a"], {"a": 2}, 2, "true", "null", "x"]
    mine = keys("1/day by claim:tenant", caller(principal(tenant=value)))
    assert all(mine != keys("1/day by claim:tenant", caller(principal(tenant=other))) for other in others)


def test_a_claim_nested_too_deeply_counts_as_absent() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert are_counted_together("1/day by claim:tenant", caller(principal(tenant=deep)), caller(principal()))
    while deep:
        # Takes the list apart, because the interpreter would free it recursively.
        deep = deep.pop()


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        (["300/minute"], ["default"]),
        (["10/second; 300/minute"], ["default-1", "default-60"]),
        (["10/second", "10/second by address", "5/second"], ["default-1", "default-1-2", "default-1-3"]),
    ],
)
def test_limits_have_unique_names(limits: list[str], names: list[str]) -> None:
    limit_set = make_limit_set("default", limits)
    assert list(limit_set.names) == names
    assert len({check.key for check in limit_set.checks_for(caller(ADA), 1)}) == len(names)


def test_the_counter_stays_if_the_amount_changes() -> None:
    assert keys("10/minute", caller(ADA)) == keys("20/minute", caller(ADA))


@pytest.mark.parametrize(
    ("limits", "one", "other", "are_shared"),
    [
        # Counters of one caller are in one partition for all services, routes and addresses.
        (["1/day"], caller(ADA), caller(ADA, "198.51.100.1", service="rules"), True),
        (["1/day", "1/hour by principal+route"], caller(ADA), caller(ADA, route="x"), True),
        # A shared counter is in one partition for all callers.
        (["1/day", "9/day by service"], caller(ADA), caller(BOB, "198.51.100.1", service="rules"), True),
        (["1/day by claim:tenant"], caller(ADA), caller(BOB), True),
    ],
)
def test_all_callers_of_a_counter_have_one_partition(
    limits: list[str], one: Caller, other: Caller, are_shared: bool
) -> None:
    limit_set = make_limit_set("default", limits)
    assert (limit_set.partition_key(one) == limit_set.partition_key(other)) is are_shared


def test_callers_without_shared_counters_are_spread_over_partitions() -> None:
    limit_set = make_limit_set("default", ["1/day", "1/hour by principal+route"])
    assert len({limit_set.partition_key(caller(principal(str(number)))) for number in range(50)}) == 50


def names_for(tree: dict[str, Any], who: Principal | None, policy: str) -> tuple[str, ...]:
    settings = loaded(tree)
    policies = {one.name: one for one in policies_of(settings)}
    return LimitSets(settings.ratelimit, policies.values()).limit_set_for(policies[policy], who).names


PLANS = {"ratelimit": {"plans": {"pro": ["3000/minute"], "free": ["10/minute", "100/day"]}}} | devices(
    limits=["5/minute"],
    plans={"pro": ["50/minute"]},
    routes=[
        {"path": "/api/devices/a", "plans": {"pro": ["1/minute"]}},
        {"path": "/api/devices/b", "limits": ["2/day"]},
    ],
)


@pytest.mark.parametrize(
    ("who", "policy", "names"),
    [
        (None, "rules", ("anonymous",)),
        (None, "auth.login_post", ("anonymous",)),
        (principal(), "rules", ("default",)),
        (principal(plan="pro"), "rules", ("default.pro",)),
        (principal(plan="free"), "rules", ("default.free-60", "default.free-86400")),
        (principal(plan="unheard of"), "rules", ("default",)),
        (principal(plan=["pro"]), "rules", ("default",)),
        (principal(plan=7), "rules", ("default",)),
        (principal(), "devices", ("devices",)),
        (principal(plan="free"), "devices", ("devices",)),
        (principal(plan="pro"), "devices", ("devices.pro",)),
        # The limits are those of the innermost level (first the route, then the service) that has limits for this
        # caller.
        (principal(), "devices.a", ("devices",)),
        (principal(plan="pro"), "devices.a", ("devices.a.pro",)),
        (principal(plan="pro"), "devices.b", ("devices.b",)),
        (None, "devices", ("anonymous",)),
    ],
)
def test_which_limits_apply(who: Principal | None, policy: str, names: tuple[str, ...]) -> None:
    assert names_for(PLANS, who, policy) == names


def test_plan_claim() -> None:
    tree = PLANS | {"ratelimit": {"plan_claim": "app.tier", "plans": {"pro": ["1/day"]}}}
    assert names_for(tree, principal(app={"tier": "pro"}), "rules") == ("default.pro",)
    assert names_for(tree, principal(plan="pro"), "rules") == ("default",)


def test_exempt_principals_of_several_issuers_include_the_issuer() -> None:
    settings = loaded({"ratelimit": {"exempt_principals": ["monitor", "https://a.test robot"]}})
    limit_sets = LimitSets(settings.ratelimit, policies_of(settings))
    exempt = [principal("monitor"), principal("robot", "https://a.test")]
    others = [
        principal("ada"),
        principal("monitor", "https://a.test"),
        principal("robot"),
        principal("robot", "https://b.test"),
    ]
    assert [limit_sets.is_exempt(one) for one in [*exempt, *others]] == [True] * 2 + [False] * 4


def test_unknown_plans_in_tokens_are_not_cached() -> None:
    settings = loaded(PLANS)
    policies = {one.name: one for one in policies_of(settings)}
    limit_sets = LimitSets(settings.ratelimit, policies.values())
    for number in range(1000):
        limit_sets.limit_set_for(policies["rules"], principal(plan=f"plan-{number}"))
    assert len(limit_sets._cached) <= 2
