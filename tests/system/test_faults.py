"""Targets fail in every way that they can, with Redis and without: what their services' clients get, how long that
takes at the most, and that the clients of another service notice nothing.

All of it are real processes. With `-s` the figures of each case are printed.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pytest

from tests.support.faulty_service import FaultyService
from tests.support.gateway import GatewayProcess
from tests.support.load import CUT, Client, Load, asking
from tests.support.redis import RedisServer, redis_failures, wait_for_redis
from tests.support.tokens import bearer

Test = TypeVar("Test", bound=Callable[..., None])

WORKERS = 2
FAILURES = 3
OPEN_SECONDS = 1.0
# For the head and for the pauses after it, of services whose target keeps them waiting; the others are patient, so that
# a busy machine is not taken for a fault.
SHORT_SECONDS, PATIENT_SECONDS = 0.4, 10.0
# Two such waits, and what a busy machine may add. Without a time limit it would be forever.
SLOWEST_SECONDS = 2 * SHORT_SECONDS + 6

LONE_REQUESTS, PAIRED_REQUESTS, OTHERS_REQUESTS = 30, 40, 40
# Of the rate that a service had, while another one fails.
LEAST_RATE = 0.3
FLAPS = 3
CLIENTS = 3
PACE_SECONDS = 0.01

OK, OPEN = "200", "503 upstream_open"
UNREACHABLE, PROTOCOL, TIMEOUT = "502 upstream_unreachable", "502 upstream_protocol", "504 upstream_timeout"
# What the clients get of a service whose only target does that: this, and once its breaker is open, OPEN.
FAULTS = {
    "refuse": UNREACHABLE,
    "reset_before_head": UNREACHABLE,
    "reset_after_head": PROTOCOL,
    "reset_in_body": CUT,
    "hang": TIMEOUT,
    "hang_after_head": TIMEOUT,
    "frozen": TIMEOUT,
    "dribble_head": TIMEOUT,
    "garbage": PROTOCOL,
}
ALL = [*FAULTS, "dribble_body"]
# Which methods' requests are sent again, to the other target.
SENT_AGAIN = {"refuse": ("GET", "POST"), "reset_before_head": ("GET",)}


def service(prefix: str, *targets: FaultyService, fault: str = "") -> dict[str, object]:
    seconds = SHORT_SECONDS if FAULTS.get(fault) == TIMEOUT else PATIENT_SECONDS
    return {
        "prefix": prefix,
        "targets": [one.url for one in targets],
        "balancing": "round_robin",
        "read_timeout_seconds": seconds,
        "breaker": {"failures": FAILURES, "open_seconds": OPEN_SECONDS},
    }


@dataclass
class Targets:
    """`other` is the healthy service's; `good` stands beside each faulty one; `restless` comes and goes."""

    faulty: dict[str, FaultyService]
    good: FaultyService
    other: FaultyService
    restless: FaultyService

    def settings(self) -> dict[str, object]:
        services = {"other": service("/api/other", self.other)}
        for name, target in {**self.faulty, "restless": self.restless}.items():
            services[f"{name}_lone"] = service(f"/api/{name}/lone", target, fault=name)
            services[f"{name}_paired"] = service(f"/api/{name}/paired", target, self.good, fault=name)
        return {"default_services": False, "services": services}


@dataclass
class Phase:
    """A gateway whose Redis is there, or is not, and how many answers a second the healthy service's clients had while
    as many clients of another service that works were asking."""

    redis: str
    gateway: GatewayProcess
    targets: Targets
    undisturbed_rate: float = field(default=0.0)
    # What the clients of lone targets got, by fault.
    seen: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def clients(self, path: str, method: str = "GET", count: int = CLIENTS) -> list[Callable[[], str]]:
        body = b'{"x":1}' if method == "POST" else None
        return [
            Client(self.gateway.port, path, bearer(f"{method}-{path}-{number}@example.com"), method, body)
            for number in range(count)
        ]

    def measure_undisturbed(self) -> None:
        with (
            asking(self.clients("/api/restless/lone", count=2 * CLIENTS), PACE_SECONDS),
            asking(self.clients("/api/other"), PACE_SECONDS) as others,
        ):
            others.reach(OTHERS_REQUESTS)
        assert others.outcomes.keys() == {OK}
        self.undisturbed_rate = others.rate


@pytest.fixture(scope="module")
def targets() -> Iterator[Targets]:
    # One after the other, or two could be given the same port.
    with ExitStack() as stack:
        good, other, restless = [stack.enter_context(FaultyService()) for _ in range(3)]
        yield Targets({fault: stack.enter_context(FaultyService(fault)) for fault in ALL}, good, other, restless)


@pytest.fixture(scope="module", params=["redis up", "redis gone"])
def phase(
    request: pytest.FixtureRequest, start_gateway: Callable[..., GatewayProcess], targets: Targets
) -> Iterator[Phase]:
    with RedisServer(tcp=True) as redis:
        gateway = start_gateway(targets.settings(), workers=WORKERS, environ={"REDIS_URL": redis.url})
        phase = Phase(request.param, gateway, targets)
        is_gone = request.param == "redis gone"
        if is_gone:
            # It had been there: what follows is a failure, and not a start without.
            assert phase.gateway.get("/api/other", bearer()).status == 200
            redis.kill()
        # Once to warm up.
        phase.measure_undisturbed()
        phase.measure_undisturbed()
        yield phase
        assert (redis_failures(gateway) > 0) >= is_gone
        if is_gone:
            redis.start()
        wait_for_redis(gateway)
        assert gateway.get("/readyz").json()["redis"] == "ok"
        assert "Traceback" not in gateway.output()
        assert not [line for line in gateway.access_log() if line["status"] == 500]
        gateway.stop()


def tell(phase: Phase, case: str, others: Load, *faulty: Load) -> None:
    shares = "  ".join(
        f"{load.share():6.1%} of {load.answered:4}, slowest {load.slowest_seconds:.2f} s" for load in faulty
    )
    kept = f"{others.rate / phase.undisturbed_rate:4.0%}, slowest {others.slowest_seconds:.2f} s"
    print(f"\n{phase.redis:10} {case:26} {shares}; others' rate {kept}", end=" ")


def check_others(phase: Phase, others: Load, *faulty: Load) -> None:
    """The other service's clients had all their answers and kept their rate; and nobody waited for long."""
    assert others.outcomes.keys() == {OK}, others.outcomes
    for load in (others, *faulty):
        assert load.slowest_seconds < SLOWEST_SECONDS, load.outcomes
    if others.rate < LEAST_RATE * phase.undisturbed_rate:
        raise RateLostError


class RateLostError(AssertionError):
    """The other service's clients were slowed down, or the machine has become busier."""


def again_if_busy(test: Test) -> Test:
    """A machine can become busier between two measurements, but hardly each time, at the same moment."""

    @functools.wraps(test)
    def run(phase: Phase, **parameters: Any) -> None:
        for _ in range(3):
            with suppress(RateLostError):
                return test(phase=phase, **parameters)
            phase.measure_undisturbed()
        return test(phase=phase, **parameters)

    return cast(Test, run)


@again_if_busy
@pytest.mark.parametrize("fault", ALL)
def test_a_lone_target(phase: Phase, fault: str) -> None:
    """Where nothing can succeed, each request gets the answer that says why, until the target is left alone."""
    with (
        asking(phase.clients(f"/api/{fault}/lone"), PACE_SECONDS) as load,
        asking(phase.clients("/api/other"), PACE_SECONDS) as others,
    ):
        others.reach(OTHERS_REQUESTS)
        load.reach(LONE_REQUESTS)
    tell(phase, f"{fault}, lone", others, load)
    outcomes = load.outcomes
    if fault == "dribble_body":
        # Late, but whole.
        assert outcomes.keys() == {OK}
    else:
        phase.seen[fault] += outcomes
        assert phase.seen[fault].keys() == {FAULTS[fault], OPEN}
        assert outcomes.total() - outcomes[OPEN] <= most_failures(load)
    check_others(phase, others, load)


@again_if_busy
@pytest.mark.parametrize("fault", ALL)
def test_one_of_two_targets(phase: Phase, fault: str) -> None:
    """All succeed but the few that it takes to find out, and of these the ones that may be sent again succeed, too."""
    with (
        asking(phase.clients(f"/api/{fault}/paired"), PACE_SECONDS) as gets,
        asking(phase.clients(f"/api/{fault}/paired", "POST"), PACE_SECONDS) as posts,
        asking(phase.clients("/api/other"), PACE_SECONDS) as others,
    ):
        others.reach(OTHERS_REQUESTS)
        gets.reach(PAIRED_REQUESTS)
        posts.reach(PAIRED_REQUESTS)
    tell(phase, f"{fault}, paired", others, gets, posts)
    for load, method in ((gets, "GET"), (posts, "POST")):
        outcomes = load.outcomes
        if fault == "dribble_body" or method in SENT_AGAIN.get(fault, ()):
            assert outcomes.keys() == {OK}
        else:
            assert outcomes.keys() <= {OK, FAULTS[fault]}
            assert outcomes[FAULTS[fault]] <= most_failures(gets, posts)
    check_others(phase, others, gets, posts)


def most_failures(*loads: Load) -> int:
    """In how many requests a target's failure can show: for each worker those that it takes to open a breaker and then
    one each time that it lets one try; and once each time, what is in flight then."""
    openings = 1 + int(loads[0].seconds / OPEN_SECONDS)
    return WORKERS * (FAILURES + openings) + CLIENTS * len(loads) * openings


@contextmanager
def asking_restless(phase: Phase, count: int) -> Iterator[tuple[Load, Load]]:
    """Load on the service with so many targets of which one comes and goes, and on another one."""
    path = f"/api/restless/{'lone' if count == 1 else 'paired'}"
    with (
        asking(phase.clients(path), PACE_SECONDS) as load,
        asking(phase.clients("/api/other"), PACE_SECONDS) as others,
    ):
        yield load, others


@again_if_busy
@pytest.mark.parametrize("count", [1, 2], ids=["lone", "paired"])
def test_a_target_is_killed_and_started_again_under_load(phase: Phase, count: int) -> None:
    restless = phase.targets.restless
    with asking_restless(phase, count) as (load, others):
        load.wait_for(30, OK)
        restless.kill()
        load.wait_for(30, OPEN if count == 1 else OK)
        restless.start()
        # By itself; the breakers let one request try.
        load.wait_for(60, OK)
        others.reach(OTHERS_REQUESTS)
    tell(phase, f"restart, {'lone' if count == 1 else 'paired'}", others, load)
    assert load.outcomes.keys() == ({OK, UNREACHABLE, OPEN} if count == 1 else {OK})
    check_others(phase, others, load)


@again_if_busy
@pytest.mark.parametrize("count", [1, 2], ids=["lone", "paired"])
def test_a_target_flaps(phase: Phase, count: int) -> None:
    restless = phase.targets.restless
    with asking_restless(phase, count) as (load, others):
        for _ in range(FLAPS):
            load.wait_for(40)
            restless.refuse()
            load.wait_for(40)
            restless.become("good")
        load.wait_for(40, OK)
        others.reach(OTHERS_REQUESTS)
    tell(phase, f"flaps, {'lone' if count == 1 else 'paired'}", others, load)
    assert load.outcomes.keys() <= ({OK, UNREACHABLE, OPEN} if count == 1 else {OK})
    check_others(phase, others, load)
