"""The breaker of a target that works again closes before its open time is over: by a connection attempt, by a health
check, and by another worker. The breakers here stay open for longer than any test waits."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from gateway.config import ServiceSettings
from gateway.proxy.balancer import Balancer
from gateway.proxy.recovery_monitor import RecoveryMonitor
from gateway.proxy.shared_recoveries import SharedRecoveries, is_loopback
from gateway.proxy.target import Target
from gateway.redis.client import FAILURES, SharedRedis
from tests.support.faulty_service import FaultyService
from tests.support.gateway import GatewayProcess
from tests.support.load import asking
from tests.support.metrics import metric_value
from tests.support.redis import RedisServer, free_port, wait_until
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream, answering

LONG = {"failures": 3, "open_seconds": 600, "max_open_seconds": 600}
OPEN, UNREACHABLE = "503 upstream_open", "502 upstream_unreachable"


@pytest.fixture(scope="module")
def restless() -> Iterator[list[FaultyService]]:
    first, second = FaultyService(), FaultyService()
    yield [first, second]
    first.kill()
    second.kill()


@pytest.fixture(scope="module")
def gateway(
    start_gateway: Callable[..., GatewayProcess], restless: list[FaultyService], module_upstream: ScriptedUpstream
) -> GatewayProcess:
    urls = [one.url for one in restless]
    lone: dict[str, Any] = {"targets": [module_upstream.url]}
    health = {"path": "/health", "interval_seconds": 0.2}
    services: dict[str, dict[str, Any]] = {
        "lone": {"targets": urls[:1], "breaker": LONG},
        "paired": {"targets": urls, "breaker": LONG},
        "eager": {"targets": urls, "breaker": LONG, "retries": 5, "retry_budget": 1},
        "checked": lone | {"breaker": LONG, "health": health},
    }
    settings = {name: {"prefix": f"/api/{name}"} | own for name, own in services.items()}
    return start_gateway({"default_services": False, "services": settings})


def are_open(gateway: GatewayProcess, service: str, url: str, count: int) -> bool:
    """Whether the breaker of a target is open in exactly `count` workers."""
    return metric_value(gateway, "gateway_breaker_open", service=service, target=url) == count


def reset(_: Received, connection: socket.socket) -> bool:
    connection.shutdown(socket.SHUT_RDWR)
    return False


@pytest.mark.parametrize(("service", "count"), [("lone", 1), ("paired", 2), ("eager", 2)])
def test_targets_that_accept_connections_again_are_used_by_all_workers(
    gateway: GatewayProcess, restless: list[FaultyService], service: str, count: int
) -> None:
    def send() -> str:
        """Sends a request on a new connection, so that the requests are spread over both workers."""
        reply = gateway.get(f"/api/{service}", bearer())
        return f"{reply.status} {reply.value('X-Gateway-Error') or ''}".strip()

    targets = restless[:count]
    with asking([send] * 8, 0.02) as load:
        load.wait_for(20, "200")
        for one in targets:
            one.refuse()
        for one in targets:
            gateway.wait_until(partial(are_open, gateway, service, one.url, 2), "open the breaker")
        for one in targets:
            one.become("good")
        for one in targets:
            gateway.wait_until(partial(are_open, gateway, service, one.url, 0), "close the breaker")
    assert load.outcomes.keys() <= {"200", UNREACHABLE, OPEN}
    assert [gateway.get(f"/api/{service}", bearer()).status for _ in range(20)] == [200] * 20
    # Each of the two workers has logged the recovery of each target.
    lines = gateway.output().splitlines()
    assert all(sum(f"{service}: requests go to {one.url} again" in line for line in lines) == 2 for one in targets)


def test_a_passed_health_check_closes_a_breaker(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.script = reset
    upstream.at["/health"] = answering(b"HTTP/1.1 503 Ill\r\nContent-Length: 0\r\n\r\n")

    def is_open_everywhere() -> bool:
        gateway.get("/api/checked", bearer())
        return are_open(gateway, "checked", upstream.url, 2)

    gateway.wait_until(is_open_everywhere, "open the breaker")
    # The target accepted connections during the whole outage, so an accepted connection does not close the breaker.
    # Only a passed health check does.
    assert gateway.get("/api/checked", bearer()).value("X-Gateway-Error") == "upstream_open"
    upstream.answers(OK)
    upstream.at["/health"] = answering(b"HTTP/1.1 204 Fine\r\n\r\n")
    gateway.wait_until(lambda: are_open(gateway, "checked", upstream.url, 0), "close the breaker")
    assert [gateway.get("/api/checked", bearer()).status for _ in range(10)] == [200] * 10


def test_health_checks_start_with_the_worker(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream
) -> None:
    health = {"path": "/well", "interval_seconds": 0.2}
    start_gateway({"services": {"devices": {"targets": [upstream.url], "health": health}}}, workers=1)
    assert upstream.wait_until(lambda: any(one.target == "/well" for one in upstream.requests), 30)


class Workers:
    """The balancers and monitors of two workers for one service, in this process."""

    def __init__(self, target: str, redis: SharedRedis) -> None:
        self.target = target
        settings = ServiceSettings.model_validate({"prefix": "/x", "targets": [target], "breaker": LONG})
        self.balancers = [Balancer(settings, time.monotonic, lambda: 0.5) for _ in range(2)]
        self.recoveries = [RecoveryMonitor(time.monotonic, SharedRecoveries(redis)) for _ in range(2)]
        for recovery, balancer in zip(self.recoveries, self.balancers, strict=True):
            recovery.add("x", settings, balancer.states)
        self.breakers = [balancer.states[0].breaker for balancer in self.balancers]
        for breaker in self.breakers:
            for _ in range(3):
                breaker.failed(breaker.acquire())
        self.examine()

    def examine(self) -> None:
        for recovery in self.recoveries:
            recovery.examine()


@pytest.fixture
def unresponsive() -> Iterator[str]:
    """A target that accepts connections and never responds, so connecting does not show that it has recovered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_recovery_seen_by_one_worker_closes_the_breakers_of_others(server: RedisServer, unresponsive: str) -> None:
    redis = SharedRedis(server.url, 1)
    first, second = (workers := Workers(unresponsive, redis)).breakers
    # This recovery is older than the outage, so it does not close the breakers.
    SharedRecoveries(redis).publish("x", Target.parse(unresponsive), 5)
    for _ in range(5):
        workers.examine()
    assert first.is_open
    assert second.is_open
    assert first.recovered(time.monotonic())

    def are_both_closed() -> bool:
        workers.examine()
        return not second.is_open

    wait_until(are_both_closed, "the other worker closes its breaker")
    assert server.ask("KEYS", "gateway:recovery:*")
    assert all(0 < server.ask("TTL", key) <= 60 for key in server.ask("KEYS", "gateway:recovery:*"))


def test_without_redis_each_worker_relies_on_its_own_observations(unresponsive: str) -> None:
    redis = SharedRedis(f"redis://127.0.0.1:{free_port()}/0", 0.1)
    with pytest.raises(FAILURES):
        SharedRecoveries(redis).seconds_since("x", Target.parse(unresponsive))
    first, second = (workers := Workers(unresponsive, redis)).breakers
    assert first.recovered(time.monotonic())
    workers.examine()
    assert not first.is_open
    assert second.is_open


def test_a_target_that_stayed_reachable_needs_a_probe(server: RedisServer, unresponsive: str) -> None:
    workers = Workers(unresponsive, SharedRedis(server.url, 1))
    monitored = workers.recoveries[0]._targets[0]
    wait_until(lambda: monitored.is_reachable, "it has connected")
    for _ in range(3):
        workers.examine()
    assert workers.breakers[0].is_open
    # The target may be unreachable after a further failure, so the monitor connects again.
    workers.breakers[0]._open(time.monotonic(), time.monotonic())
    workers.examine()
    assert monitored.opened_at == workers.breakers[0].opened_at


def test_is_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert not any(is_loopback(host) for host in ("10.0.0.1", "::2", "localhost.example.com", "devices"))
