"""Which limits hold for whom, and who shares a counter with whom."""

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
    ("text", "one", "other", "together"),
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
        # One issuer's tenants are not another's.
        ("1/day by claim:tenant", caller(ADA), caller(principal("ada", "https://b.test", tenant="acme")), False),
        # Who has no such claim, or no such header, is counted for itself.
        ("1/day by claim:tenant", caller(principal("ada")), caller(principal("bob")), False),
        ("1/day by claim:tenant", caller(principal("ada")), caller(principal("ada"), service="rules"), True),
        ("1/day by header:X-Key", caller(ADA), caller(BOB), False),
        ("1/day by header:X-Key", caller(ADA, fields=[("x-key", "k")]), caller(BOB, fields=[("X-KEY", "k")]), True),
        ("1/day by header:X-Key", caller(ADA, fields=[("X-Key", "k")]), caller(ADA, fields=[("X-Key", "l")]), False),
    ],
)
def test_who_is_counted_together(text: str, one: Caller, other: Caller, together: bool) -> None:
    assert are_counted_together(text, one, other) is together


texts = st.text(max_size=8) | st.text(st.sampled_from("|:=%+ae"), max_size=8)


@given(texts, texts, texts, texts)
def test_no_value_can_be_written_to_look_like_anothers(subject: str, tenant: str, other: str, elsewhere: str) -> None:
    text = "1/day by claim:tenant+principal+header:X-Key"
    one = caller(principal(subject, tenant=tenant), fields=[("X-Key", other)])
    two = caller(principal(other, tenant=elsewhere), fields=[("X-Key", subject)])
    assert are_counted_together(text, one, two) is ((subject, tenant) == (other, elsewhere))


@pytest.mark.parametrize("value", [["a", "b"], {"a": 1}, 1, 1.5, True, "1", None, float("nan")])
def test_claims_of_any_type_are_told_apart(value: Any) -> None:
    others = [["a"], {"a": 2}, 2, "true", "null", "x"]
    mine = keys("1/day by claim:tenant", caller(principal(tenant=value)))
    assert all(mine != keys("1/day by claim:tenant", caller(principal(tenant=other))) for other in others)


def test_a_claim_without_bottom_is_nobodys_tenant() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert are_counted_together("1/day by claim:tenant", caller(principal(tenant=deep)), caller(principal()))
    while deep:
        # Or the interpreter itself would go down into it to free it.
        deep = deep.pop()


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        (["300/minute"], ["default"]),
        (["10/second; 300/minute"], ["default-1", "default-60"]),
        (["10/second", "10/second by address", "5/second"], ["default-1", "default-1-2", "default-1-3"]),
    ],
)
def test_limits_are_told_apart_by_name(limits: list[str], names: list[str]) -> None:
    limit_set = make_limit_set("default", limits)
    assert list(limit_set.names) == names
    assert len({check.key for check in limit_set.checks_for(caller(ADA), 1)}) == len(names)


def test_another_amount_goes_on_with_what_was_counted() -> None:
    assert keys("10/minute", caller(ADA)) == keys("20/minute", caller(ADA))


@pytest.mark.parametrize(
    ("limits", "one", "other", "together"),
    [
        # The caller's own counters are with the caller, wherever it is.
        (["1/day"], caller(ADA), caller(ADA, "198.51.100.1", service="rules"), True),
        (["1/day", "1/hour by principal+route"], caller(ADA), caller(ADA, route="x"), True),
        # A counter that all share is in one place for all.
        (["1/day", "9/day by service"], caller(ADA), caller(BOB, "198.51.100.1", service="rules"), True),
        (["1/day by claim:tenant"], caller(ADA), caller(BOB), True),
    ],
)
def test_counters_are_in_the_same_partition_for_all_who_share_one(
    limits: list[str], one: Caller, other: Caller, together: bool
) -> None:
    limit_set = make_limit_set("default", limits)
    assert (limit_set.partition_key(one) == limit_set.partition_key(other)) is together


def test_callers_are_spread_over_partitions_where_they_can_be() -> None:
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
        # The innermost level that has limits for this caller.
        (principal(), "devices.a", ("devices",)),
        (principal(plan="pro"), "devices.a", ("devices.a.pro",)),
        (principal(plan="pro"), "devices.b", ("devices.b",)),
        (None, "devices", ("anonymous",)),
    ],
)
def test_which_limits_hold(who: Principal | None, policy: str, names: tuple[str, ...]) -> None:
    assert names_for(PLANS, who, policy) == names


def test_the_claim_that_names_the_plan_can_be_another_one() -> None:
    tree = PLANS | {"ratelimit": {"plan_claim": "app.tier", "plans": {"pro": ["1/day"]}}}
    assert names_for(tree, principal(app={"tier": "pro"}), "rules") == ("default.pro",)
    assert names_for(tree, principal(plan="pro"), "rules") == ("default",)


def test_exempt_principals_are_known_by_issuer_where_there_are_several() -> None:
    settings = loaded({"ratelimit": {"exempt_principals": ["monitor", "https://a.test robot"]}})
    quotas = LimitSets(settings.ratelimit, policies_of(settings))
    exempt = [principal("monitor"), principal("robot", "https://a.test")]
    others = [
        principal("ada"),
        principal("monitor", "https://a.test"),
        principal("robot"),
        principal("robot", "https://b.test"),
    ]
    assert [quotas.is_exempt(one) for one in [*exempt, *others]] == [True] * 2 + [False] * 4


def test_what_a_caller_claims_makes_no_plans() -> None:
    settings = loaded(PLANS)
    policies = {one.name: one for one in policies_of(settings)}
    quotas = LimitSets(settings.ratelimit, policies.values())
    for number in range(1000):
        quotas.limit_set_for(policies["rules"], principal(plan=f"plan-{number}"))
    assert len(quotas._cached) <= 2
