"""Failures of Redis: requests get their responses in time, and the gateway recovers without intervention."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.support.client import Connection, Reply, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.process_table import children_of
from tests.support.redis import PASSWORD, FalseRedis, RedisServer, revoke_token, wait_for_redis, while_redis_answers
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

LIMIT = 8
WORKERS = 2
# No response takes longer than a second on an idle machine; the rest is a margin for a busy machine.
ANSWER_SECONDS = 4
numbers = count(1)


def fresh_subject() -> str:
    return f"caller-{next(numbers)}@example.com"


def ask(gateway: GatewayProcess, data: bytes) -> Reply:
    """Sends a request and returns the response. Fails the test if it does not arrive in time."""
    with Connection(gateway.port, ANSWER_SECONDS) as connection:
        connection.send(data)
        return connection.reply()


def get(gateway: GatewayProcess, target: str, *fields: tuple[str, str]) -> Reply:
    return ask(gateway, request_bytes("GET", target, fields))


def burst(gateway: GatewayProcess, tries: int = LIMIT + 4) -> list[Reply]:
    """Sends requests of one new principal. Returns the responses."""
    subject = fresh_subject()
    return [get(gateway, "/api/devices", bearer(subject)) for _ in range(tries)]


def state(gateway: GatewayProcess) -> str:
    reply = get(gateway, "/readyz")
    assert reply.status == 200
    document = reply.json()
    assert document.keys() == {"status", "redis", "keys"}
    assert document["status"] == "ready"
    return str(document["redis"])


@dataclass
class Gateways:
    """Three gateways, one for each value of on_redis_failure, and the Redis that they share."""

    server: RedisServer
    local: GatewayProcess
    open: GatewayProcess
    closed: GatewayProcess

    def __iter__(self) -> Iterator[GatewayProcess]:
        return iter((self.local, self.open, self.closed))

    def check_failing(self) -> None:
        """Checks that each gateway applies its on_redis_failure and continues to serve while Redis fails."""
        statuses = Counter(reply.status for reply in burst(self.local))
        # Each worker counts its share; the kernel chooses which worker gets a connection.
        assert statuses.keys() <= {200, 429}
        assert LIMIT // WORKERS <= statuses[200] <= LIMIT
        for reply in burst(self.open):
            assert (reply.status, reply.value("RateLimit"), reply.value("X-RateLimit-Limit")) == (200, None, None)
        for reply in burst(self.closed):
            assert (reply.status, reply.value("X-Gateway-Error")) == (503, "limiter_unavailable")
            assert reply.value("Content-Type") == "application/problem+json"
            assert int(reply.value("Retry-After") or "") >= 1
            document = reply.json()
            assert document["type"] == "urn:gateway:problem:limiter_unavailable"
            assert document["instance"] == reply.value("X-Request-Id")
            assert str(self.server.port) not in reply.body.decode() + str(reply.fields)
        for gateway in self:
            assert state(gateway) == "down"
            assert get(gateway, "/healthz").status == 200

    def wait_for_recovery(self) -> None:
        """Waits until every worker that logged the failure has logged the recovery. Nothing but requests makes it log
        that."""
        for gateway in self:
            wait_for_redis(gateway)

    def check_counting(self) -> None:
        """Checks that Redis counts again: all workers together let exactly LIMIT requests pass."""
        for gateway in self:
            check_counting(gateway=gateway)


@while_redis_answers
def check_counting(gateway: GatewayProcess) -> None:
    assert Counter(reply.status for reply in burst(gateway)) == {200: LIMIT, 429: 4}
    assert state(gateway) == "ok"


@dataclass
class AtStart:
    """The responses of gateways to requests before their Redis was started."""

    statuses: dict[str, Counter[int]]
    states: set[str]


@pytest.fixture(scope="module")
def before_redis() -> AtStart:
    return AtStart({}, set())


@pytest.fixture(scope="module")
def module_gateways(
    start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream, before_redis: AtStart
) -> Iterator[Gateways]:
    def start(policy: str) -> GatewayProcess:
        settings = four_services(module_upstream.url)
        settings["services"]["free"] = {"prefix": "/api/free", "targets": [module_upstream.url], "cost": 0}
        settings["ratelimit"] = {"default": f"{LIMIT}/day", "on_redis_failure": policy}
        return start_gateway(settings, workers=WORKERS if policy == "local" else 1, environ={"REDIS_URL": server.url})

    with RedisServer(tcp=True, started=False) as server:
        with ThreadPoolExecutor() as pool:
            gateways = Gateways(server, *pool.map(start, ("local", "open", "closed")))
        for name, gateway in zip(("local", "open", "closed"), gateways, strict=True):
            before_redis.statuses[name] = Counter(reply.status for reply in burst(gateway))
            before_redis.states.add(state(gateway))
        server.start()
        gateways.wait_for_recovery()
        yield gateways
        with ThreadPoolExecutor() as pool:
            list(pool.map(GatewayProcess.stop, gateways))


@pytest.fixture
def gateways(module_gateways: Gateways, upstream: ScriptedUpstream) -> Gateways:
    """The gateways of the module, once they count in Redis again after the fault of the previous test."""
    module_gateways.check_counting()
    return module_gateways


def test_gateway_starts_and_serves_without_redis(gateways: Gateways, before_redis: AtStart) -> None:
    passed = before_redis.statuses["local"][200]
    assert LIMIT // WORKERS <= passed <= LIMIT
    assert before_redis.statuses["local"] == {200: passed, 429: LIMIT + 4 - passed}
    assert before_redis.statuses["open"] == {200: LIMIT + 4}
    assert before_redis.statuses["closed"] == {503: LIMIT + 4}
    assert before_redis.states == {"down"}


@contextmanager
def killed(server: RedisServer) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextmanager
def paused(server: RedisServer) -> Iterator[None]:
    server.pause()
    yield
    server.resume()


@contextmanager
def read_only(server: RedisServer) -> Iterator[None]:
    server.ask("REPLICAOF", "127.0.0.1", "1")
    yield
    server.ask("REPLICAOF", "NO", "ONE")


def configured(name: str, value: str, healthy: str) -> Callable[[RedisServer], AbstractContextManager[None]]:
    """A fault: a setting of Redis has a bad value. All connections are closed, so that it applies to them as well."""

    @contextmanager
    def fault(server: RedisServer) -> Iterator[None]:
        with server.client() as admin:
            admin.config_set(name, value)
            admin.client_kill_filter(_type="normal", skipme=True)
            yield
            admin.config_set(name, healthy)

    return fault


def passes_late(_: bytes) -> bytes:
    """A valid reply of the script that arrives after the timeout of the request."""
    threading.Event().wait(0.3)
    return b"*4\r\n:1\r\n:7\r\n:1000\r\n:0\r\n"


def replaced_by(answer: Callable[[bytes], bytes] | bytes) -> Callable[[RedisServer], AbstractContextManager[None]]:
    """A fault: another server listens at Redis' address, and replies like this."""

    @contextmanager
    def fault(server: RedisServer) -> Iterator[None]:
        server.kill()
        with FalseRedis(server.port, answer):
            yield
        server.start()

    return fault


# tests/integration/rate_limiting/test_redis_counters.py has more of such servers. They need no gateway, as
# RedisCounters raises the same error for all of them.
FAULTS: dict[str, Callable[[RedisServer], AbstractContextManager[None]]] = {
    "killed": killed,
    "paused": paused,
    "read-only": read_only,
    "out of memory": configured("maxmemory", "1", "0"),
    "too few replicas": configured("min-replicas-to-write", "1", "0"),
    "another password": configured("requirepass", "another", PASSWORD),
    "too many clients": configured("maxclients", "1", "1000"),
    "never answers": replaced_by(b""),
    "an http server": replaced_by(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "says ok to everything": replaced_by(b"+OK\r\n"),
    "slow": replaced_by(passes_late),
    "loading": replaced_by(b"-LOADING Redis is loading the dataset in memory\r\n"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_requests_get_responses_and_gateway_recovers(
    gateways: Gateways, fault: Callable[[RedisServer], AbstractContextManager[None]]
) -> None:
    with fault(gateways.server):
        gateways.check_failing()
    gateways.wait_for_recovery()
    gateways.check_counting()


@pytest.mark.parametrize("name", ["read-only", "out of memory", "too few replicas"])
def test_revocations_apply_while_redis_refuses_writes(gateways: Gateways, name: str) -> None:
    """Revocations apply from the first request on, also in the breaker's pauses, for each on_redis_failure."""
    token = f"token-{next(numbers)}"
    revoke_token(gateways.server, token)
    unseen = [line for gateway in gateways for line in gateway.output().splitlines() if "can't be seen" in line]
    with FAULTS[name](gateways.server):
        for gateway, expected in zip(gateways, (200, 200, 503), strict=True):
            for _ in range(6):
                # No limit applies to /api/free, so only the revocation is looked up.
                requests = [(path, jti) for jti in (token, "another") for path in ("/api/devices", "/api/free")]
                statuses = [get(gateway, path, bearer(fresh_subject(), jti=jti)).status for path, jti in requests]
                assert statuses == [503 if expected == 503 else 401, 401, expected, 200]
            assert state(gateway) == "down"
            assert get(gateway, "/api/free", bearer(fresh_subject(), jti=token)).status == 401
    gateways.wait_for_recovery()
    # A late response of Redis on a busy machine must not fail this test.
    timeouts = [line for gateway in gateways for line in gateway.output().splitlines() if "Timeout" in line]
    now = [line for gateway in gateways for line in gateway.output().splitlines() if "can't be seen" in line]
    assert now == unseen or timeouts


def broken_connections(gateways: Gateways) -> list[str]:
    """The failures that the gateways logged, except for timeouts, which a busy machine can cause."""
    lines = [line for gateway in gateways for line in gateway.output().splitlines()]
    return [line for line in lines if "Redis fails (" in line and "Timeout" not in line]


def test_no_request_fails_if_redis_restarts_between_requests(gateways: Gateways) -> None:
    gateways.check_counting()
    before = broken_connections(gateways)
    gateways.server.restart()
    # Dead connections are noticed before anything is sent on them.
    gateways.check_counting()
    assert broken_connections(gateways) == before


@pytest.mark.parametrize("sign", ["pause", "kill"])
def test_limits_hold_if_redis_fails_with_many_requests_in_flight(gateways: Gateways, sign: str) -> None:
    data = [request_bytes("GET", "/api/devices", [bearer(fresh_subject())]) for _ in range(40)]
    answered: list[int] = []

    def ask_often(number: int) -> None:
        with Connection(gateways.local.port, ANSWER_SECONDS) as connection:
            for _ in range(10):
                connection.send(data[number])
                answered.append(connection.reply().status)
                if len(answered) == 100:
                    getattr(gateways.server, sign)()

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(ask_often, range(40)))
    assert len(answered) == 400
    assert set(answered) == {200, 429}
    # For each of the 40 callers, at most LIMIT requests passed while Redis counted, and LIMIT more while the workers
    # counted.
    assert answered.count(200) <= 40 * 2 * LIMIT
    if sign == "pause":
        gateways.server.resume()
    else:
        gateways.server.start()
    gateways.wait_for_recovery()


def test_a_hung_redis_does_not_delay_requests_without_limits(gateways: Gateways) -> None:
    with paused(gateways.server):
        for _ in range(20):
            assert get(gateways.closed, "/healthz").status == 200
            assert get(gateways.closed, "/nowhere").status == 404
        # Redis has failed, but no request has needed it yet, so the gateway has not noticed.
        assert "Redis fails" not in gateways.closed.output().rpartition("Redis works again")[2]
    gateways.check_counting()


def test_the_private_redis_is_started_again_after_its_death(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream
) -> None:
    settings = four_services(upstream.url) | {"ratelimit": {"default": f"{LIMIT}/day"}}
    gateway = start_gateway(settings, workers=1)
    check_counting(gateway=gateway)
    (private,) = [pid for pid in children_of(gateway.process.pid) if "server" in command_of(pid)]
    os.kill(private, signal.SIGKILL)
    # The gateway starts Redis again during these requests or after them.
    counts = Counter(reply.status for reply in burst(gateway))
    assert counts.keys() <= {200, 429}
    assert counts[200] >= LIMIT
    gateway.wait_until(lambda: "it is started again" in gateway.output(), "replace it")
    wait_for_redis(gateway)
    check_counting(gateway=gateway)


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_no_gateway_logged_an_exception_or_a_500(module_gateways: Gateways) -> None:
    for gateway in module_gateways:
        output = gateway.output()
        assert "Traceback" not in output
        assert not [line for line in gateway.access_log() if line["status"] == 500]
        assert PASSWORD not in output
