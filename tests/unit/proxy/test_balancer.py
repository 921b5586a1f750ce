"""Which target the balancer chooses."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from gateway.config import ServiceSettings
from gateway.errors import Overloaded, UpstreamOpen
from gateway.proxy.balancer import Balancer, TargetState
from tests.unit.proxy.test_breaker import Clock, fail


def balancer(count: int = 3, **settings: Any) -> tuple[Balancer, Clock]:
    clock = Clock()
    targets = tuple(f"http://t{number}" for number in range(count))
    chance = random.Random(7).random  # noqa: S311 - chance, not a secret
    return Balancer(ServiceSettings(prefix="/x", targets=targets, **settings), clock, chance), clock


def name(state: TargetState) -> str:
    return state.target.host


def chosen(one: Balancer, times: int, caller: str = "ada") -> Counter[str]:
    return Counter(name(one.choose(caller)) for _ in range(times))


def test_less_busy_targets_are_preferred() -> None:
    one, _ = balancer()
    for _ in range(300):
        one.choose("ada").in_flight += 1
    in_flight = [state.in_flight for state in one.states]
    assert max(in_flight) - min(in_flight) <= 6
    one.states[0].in_flight = 10_000
    found = chosen(one, 900)
    # The busy target is only chosen if both random candidates are this target.
    assert found["t0"] < 200


@pytest.mark.parametrize("balancing", ["least", "round_robin", "principal"])
def test_weights_are_respected(balancing: Any) -> None:
    one, _ = balancer(2, weights=(95, 5), balancing=balancing)
    found: Counter[str] = Counter()
    for number in range(4000):
        state = one.choose(f"caller-{number}")
        found[name(state)] += 1
    assert 0.03 < found["t1"] / 4000 < 0.07


def test_round_robin_is_even_and_mixed() -> None:
    one, _ = balancer(2, weights=(5, 1), balancing="round_robin")
    assert "".join(name(one.choose("ada"))[1] for _ in range(6)) == "000100"
    one, _ = balancer(balancing="round_robin")
    assert chosen(one, 9) == {"t0": 3, "t1": 3, "t2": 3}


def test_a_target_of_weight_zero_is_never_chosen() -> None:
    one, _ = balancer(2, weights=(1, 0))
    assert chosen(one, 50) == {"t0": 50}
    fail(one.states[0].breaker, 5)
    with pytest.raises(UpstreamOpen):
        one.choose("ada")


def test_a_principal_keeps_its_target_unless_that_target_fails() -> None:
    one, _ = balancer(5, balancing="principal")
    before = {f"caller-{number}": name(one.choose(f"caller-{number}")) for number in range(500)}
    assert all(name(one.choose(caller)) == target for caller, target in before.items())
    assert min(Counter(before.values()).values()) > 50
    fail(one.states[2].breaker, 5)
    moved = [caller for caller, target in before.items() if name(one.choose(caller)) != target]
    assert {before[caller] for caller in moved} == {"t2"}


def test_a_target_with_an_open_breaker_is_skipped_until_half_open() -> None:
    one, clock = balancer()
    fail(one.states[0].breaker, 5)
    assert chosen(one, 50)["t0"] == 0
    clock.now += 1
    assert chosen(one, 50)["t0"] > 0


def test_retry_after_is_the_shortest_wait_of_all_open_breakers() -> None:
    one, clock = balancer(2, breaker={"open_seconds": 4})
    fail(one.states[0].breaker, 5)
    clock.now += 1.5
    fail(one.states[1].breaker, 5)
    with pytest.raises(UpstreamOpen) as caught:
        one.choose("ada")
    assert ("Retry-After", "3") in caught.value.headers


def test_a_lone_target_with_an_open_breaker_is_refused_until_half_open() -> None:
    one, clock = balancer(1)
    fail(one.states[0].breaker, 5)
    with pytest.raises(UpstreamOpen):
        one.choose("ada")
    clock.now += 1
    assert name(one.choose("ada")) == "t0"


def test_max_in_flight_per_target() -> None:
    one, _ = balancer(2, max_in_flight_per_target=3)
    for _ in range(6):
        one.choose("ada").in_flight += 1
    assert [state.in_flight for state in one.states] == [3, 3]
    with pytest.raises(Overloaded):
        one.choose("ada")


def test_unhealthy_targets_are_skipped_above_the_panic_threshold() -> None:
    one, _ = balancer(3, health={"path": "/health", "min_available": 2})
    one.states[0].is_healthy = False
    assert chosen(one, 50)["t0"] == 0
    one.states[1].is_healthy = False
    # One healthy target is fewer than min_available = 2: health results are ignored.
    assert set(chosen(one, 100)) == {"t0", "t1", "t2"}
    one, _ = balancer(2, health={"path": "/health", "min_available": 0})
    one.states[0].is_healthy = one.states[1].is_healthy = False
    assert set(chosen(one, 50)) == {"t0", "t1"}


def test_a_resting_target_is_chosen_only_if_all_rest() -> None:
    one, _ = balancer(2)
    one.states[0].breaker.rest(10)
    assert chosen(one, 50) == {"t1": 50}
    one.states[1].breaker.rest(10)
    assert set(chosen(one, 50)) == {"t0", "t1"}


def test_choose_another_returns_untried_targets_only() -> None:
    one, _ = balancer(3)
    tried = [one.choose("ada")]
    while (state := one.choose_another("ada", tried)) is not None:
        assert state not in tried
        tried.append(state)
    assert len(tried) == 3
