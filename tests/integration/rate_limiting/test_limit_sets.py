"""Rate limits through the gateway: dimensions, plans, costs, exemptions, observe mode; and `flask quota`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.commands import flask
from tests.support.gateway import GatewayProcess
from tests.support.metrics import metric_value
from tests.support.redis import RedisServer, calls_of, free_port, revoke_token, while_redis_answers
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

numbers = count(1)
SETTINGS: dict[str, Any] = {
    "ratelimit": {
        "default": "5/day",
        "plans": {"pro": ["7/day"]},
        "exempt_principals": ["monitor"],
    },
    "services": {
        "auth": {"limits": ["4/day by header:X-Api-Key"]},
        "livestreams": {
            "limits": ["3/day by principal+service", "1000/day burst 6 by claim:tenant"],
            "routes": [
                {"path": "/api/livestreams/costly", "cost": 2},
                {"path": "/api/livestreams/free", "cost": 0},
            ],
        },
        "rules": {"limits": ["3/day fixed"], "limits_mode": "observe"},
        "devices": {
            "routes": [
                {"path": "/api/devices/total", "limits": ["4/day by route"]},
                {"path": "/api/devices/bucket", "limits": ["1/day burst 3"]},
            ]
        },
    },
}


def fresh() -> str:
    return f"caller-{next(numbers)}"


@pytest.fixture(scope="module")
def settings(module_upstream: ScriptedUpstream) -> dict[str, Any]:
    services = {name: own | {"targets": [module_upstream.url]} for name, own in SETTINGS["services"].items()}
    return SETTINGS | {"services": services}


@pytest.fixture(scope="module")
def gateways(
    start_gateway: Callable[..., GatewayProcess], settings: dict[str, Any], server: RedisServer
) -> list[GatewayProcess]:
    return [start_gateway(settings, workers=2, environ={"REDIS_URL": server.url}) for _ in range(2)]


@pytest.fixture
def gateway(gateways: list[GatewayProcess], upstream: ScriptedUpstream) -> GatewayProcess:
    assert upstream.requests == []
    return gateways[0]


def statuses(gateway: GatewayProcess, path: str, tries: int, *fields: tuple[str, str]) -> Counter[int]:
    return Counter(gateway.get(path, *fields).status for _ in range(tries))


@while_redis_answers
def test_two_gateways_with_two_workers_each_share_limits_of_each_algorithm(
    gateway: GatewayProcess, gateways: list[GatewayProcess]
) -> None:
    for path, passes in [("/api/devices", 5), ("/api/devices/bucket", 3), ("/api/livestreams", 3)]:
        data = request_bytes("GET", path, [bearer(fresh(), tenant=fresh())])

        def some_requests(number: int, data: bytes = data) -> list[int]:
            found = []
            for turn in range(3):
                with Connection(gateways[(number + turn) % 2].port) as connection:
                    connection.send(data)
                    found.append(connection.reply().status)
            return found

        with ThreadPoolExecutor(20) as pool:
            found = Counter(status for some in pool.map(some_requests, range(20)) for status in some)
        assert found == {200: passes, 429: 60 - passes}, path


@while_redis_answers
def test_callers_of_a_tenant_share_its_bucket_and_have_their_own_limit(gateway: GatewayProcess) -> None:
    tenant = fresh()
    # Each caller may send three requests, all callers of the tenant together six.
    found = [statuses(gateway, "/api/livestreams", 4, bearer(fresh(), tenant=tenant)) for _ in range(3)]
    assert found == [{200: 3, 429: 1}, {200: 3, 429: 1}, {429: 4}]
    reply = gateway.get("/api/livestreams", bearer(fresh(), tenant=tenant))
    assert reply.status == 429
    assert reply.json()["violated-policies"] == ["livestreams-86400-2"]
    # The tenant's limit refused this request, so the caller's own limit was not charged.
    policies = reply.value("RateLimit-Policy") or ""
    assert policies == '"livestreams-86400";q=3;w=86400, "livestreams-86400-2";q=6;w=519'
    assert (reply.value("X-RateLimit-Limit"), reply.value("X-RateLimit-Remaining")) == ("6", "0")
    assert 1 <= int(reply.value("Retry-After") or "") <= 87


@while_redis_answers
def test_a_limit_by_header_and_callers_without_the_header(gateway: GatewayProcess) -> None:
    key, who = ("X-Api-Key", fresh()), bearer(fresh())
    assert statuses(gateway, "/api/auth/me", 3, key, bearer(fresh())) == {200: 3}
    assert statuses(gateway, "/api/auth/me", 3, key, bearer(fresh())) == {200: 1, 429: 2}
    assert statuses(gateway, "/api/auth/me", 6, who) == {200: 4, 429: 2}


@while_redis_answers
def test_a_limit_by_route_applies_to_all_callers_together(gateway: GatewayProcess, server: RedisServer) -> None:
    server.ask("FLUSHALL")
    found = Counter(gateway.get("/api/devices/total", bearer(fresh())).status for _ in range(7))
    assert found == {200: 4, 429: 3}


@while_redis_answers
def test_costs(gateway: GatewayProcess) -> None:
    who = bearer(fresh(), tenant=fresh())
    assert gateway.get("/api/livestreams/costly", who).value("X-RateLimit-Remaining") == "1"
    # A request of cost 2 is refused, but one of cost 1 still passes.
    assert gateway.get("/api/livestreams/costly", who).status == 429
    assert statuses(gateway, "/api/livestreams", 2, who) == {200: 1, 429: 1}
    free = gateway.get("/api/livestreams/free", who)
    assert (free.status, free.value("X-RateLimit-Limit")) == (200, None)


@while_redis_answers
def test_the_plan_is_a_claim_of_the_token(gateway: GatewayProcess) -> None:
    reply = gateway.get("/api/devices", bearer(fresh(), plan="pro"))
    assert reply.value("RateLimit-Policy") == '"default.pro";q=7;w=86400'
    assert gateway.get("/api/devices", bearer(fresh(), plan="free")).value("X-RateLimit-Limit") == "5"


def test_exempt_principals_are_not_counted_but_can_be_revoked(gateway: GatewayProcess, server: RedisServer) -> None:
    token = bearer("monitor", jti="monitor-1")
    replies = [gateway.get("/api/devices", token) for _ in range(9)]
    assert {reply.status for reply in replies} == {200}
    assert replies[0].value("X-RateLimit-Limit") is None
    revoke_token(server, "monitor-1")
    assert gateway.get("/api/devices", token).status == 401


def test_exempt_addresses(
    start_gateway: Callable[..., GatewayProcess],
    settings: dict[str, Any],
    server: RedisServer,
    upstream: ScriptedUpstream,
) -> None:
    own = {"ratelimit": {"default": "2/day", "exempt_addresses": ["10.0.0.0/8", "2001:db8::/32"]}}
    proxied = {"proxy": {"trusted_hops": 1}}
    gateway = start_gateway(settings | own | proxied, workers=1, environ={"REDIS_URL": server.url})
    who = bearer(fresh())

    def from_address(address: str) -> Counter[int]:
        return statuses(gateway, "/api/devices", 4, who, ("X-Forwarded-For", address))

    assert from_address("10.1.2.3") == from_address("2001:db8::1") == {200: 4}
    assert from_address("11.1.2.3") == {200: 2, 429: 2}
    for address in ("10.1.2.3:4711", "::ffff:10.1.2.3", "[2001:db8::1]:4711", '"[2001:db8::1]"'):
        assert from_address(address) == {200: 4}
    assert len(upstream.requests) == 26


@while_redis_answers
def test_observe_mode_lets_pass_and_reports(gateway: GatewayProcess, server: RedisServer) -> None:
    who = bearer(fresh())
    before = metric_value(gateway, "gateway_quota_refusals_total", service="rules", route="rules", mode="observe")
    replies = [gateway.get("/api/rules", who) for _ in range(5)]
    assert [reply.status for reply in replies] == [200] * 5
    assert [reply.value("X-RateLimit-Observed") for reply in replies] == [None] * 3 + ['"rules"'] * 2
    assert [reply.value("X-RateLimit-Remaining") for reply in replies] == ["2", "1", "0", "0", "0"]
    assert [reply.value("Retry-After") for reply in replies] == [None] * 5
    after = metric_value(gateway, "gateway_quota_refusals_total", service="rules", route="rules", mode="observe")
    assert after == before + 2
    last = replies[-1].value("X-Request-Id")
    assert gateway.wait_for_log(lambda line: line["request_id"] == last)["over_quota"] == ["rules"]


@while_redis_answers
def test_refusals_are_counted(gateway: GatewayProcess) -> None:
    before = metric_value(gateway, "gateway_quota_refusals_total", service="devices", route="devices", mode="enforce")
    assert statuses(gateway, "/api/devices", 8, bearer(fresh())) == {200: 5, 429: 3}
    after = metric_value(gateway, "gateway_quota_refusals_total", service="devices", route="devices", mode="enforce")
    assert after == before + 3


def test_on_redis_failure_of_each_route_and_its_metrics(
    start_gateway: Callable[..., GatewayProcess], settings: dict[str, Any]
) -> None:
    services = settings["services"] | {
        "rules": settings["services"]["rules"] | {"limits_mode": "enforce", "on_redis_failure": "open"},
        "devices": {
            "targets": settings["services"]["rules"]["targets"],
            "routes": [{"path": "/api/devices/safe", "on_redis_failure": "closed"}],
        },
    }
    port = free_port()
    gateway = start_gateway(
        settings | {"services": services}, workers=1, environ={"REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    )
    who = bearer(fresh())
    assert statuses(gateway, "/api/devices", 7, who) == {200: 5, 429: 2}
    assert statuses(gateway, "/api/rules", 7, who) == {200: 7}
    refused = gateway.get("/api/devices/safe", who)
    assert (refused.status, refused.value("X-Gateway-Error")) == (503, "limiter_unavailable")
    counts = {
        way: metric_value(gateway, "gateway_quota_fallbacks_total", way=way) for way in ("local", "open", "closed")
    }
    assert counts == {"local": 7, "open": 7, "closed": 1}
    assert metric_value(gateway, "gateway_redis_failures_total") >= 1
    assert metric_value(gateway, "gateway_redis_down") == 1


def test_a_request_is_one_redis_command(gateway: GatewayProcess, server: RedisServer) -> None:
    commands = ["evalsha", "eval", "get", "set", "time", "script|load", "client|setinfo", "client|setname", "ping"]
    who = bearer(fresh(), tenant=fresh(), jti=fresh())
    gateway.get("/api/livestreams/costly", who)
    with server.client() as admin:
        before = calls_of(admin, commands)
        assert gateway.get("/api/livestreams", who).status in (200, 429)
        after = calls_of(admin, commands)
    made = {name: after[name] - before[name] for name in commands if after[name] != before[name]}
    # GET, SET and TIME are called by the script.
    assert made.pop("evalsha") == 1
    assert made.keys() <= {"get", "set", "time"}


def table(text: str) -> dict[str, list[str]]:
    """The values USED, OF and RESET IN of each row that `flask quota` prints, by the name of the limit."""
    lines = text.splitlines()
    starts = [lines[0].index(word) for word in ("USED", "OF", "RESET")]
    return {
        line.split("  ")[0]: [
            line[starts[0] : starts[1]].strip(),
            line[starts[1] : starts[2]].strip(),
            line[starts[2] :],
        ]
        for line in lines[1:]
    }


def run_quota(server: RedisServer, settings: dict[str, Any], *words: str) -> str:
    return flask("quota", *words, settings=settings, environ={"REDIS_URL": server.url})


@while_redis_answers
def test_quota_shows_what_is_used_and_resets_it(
    gateway: GatewayProcess, server: RedisServer, settings: dict[str, Any]
) -> None:
    subject, tenant = fresh(), fresh()
    who = bearer(subject, tenant=tenant)
    for path in ("/api/devices", "/api/devices", "/api/livestreams", "/api/rules", "/api/devices/bucket"):
        assert gateway.get(path, who).status == 200
    words = (subject, "--claim", f"tenant={tenant}")
    shown = table(run_quota(server, settings, *words))
    assert {name: row[:2] for name, row in shown.items()} == {
        "auth": ["0", "4"],
        "livestreams-86400": ["1", "3"],
        "livestreams-86400-2": ["1", "6"],
        "rules": ["1", "3"],
        "devices.total": [shown["devices.total"][0], "4"],
        "devices.bucket": ["1", "3"],
        "default": ["2", "5"],
    }
    assert shown["auth"][2] == "-"
    assert shown["default"][2].endswith(" s")
    # `flask quota` charges nothing.
    assert table(run_quota(server, settings, *words))["default"][0] == "2"
    after_reset = table(run_quota(server, settings, *words, "--reset"))
    assert after_reset["default"][2] == "reset"
    assert after_reset["livestreams-86400-2"][2] == "shared with others, not reset"
    shown = table(run_quota(server, settings, *words))
    assert {name for name, row in shown.items() if row[0] != "0"} <= {"livestreams-86400-2", "devices.total"}
    assert gateway.get("/api/devices", who).value("X-RateLimit-Remaining") == "4"


def test_quota_shows_counters_of_addresses_only_with_an_address(server: RedisServer) -> None:
    # The built-in login route counts by address, so its limit is only shown if an address is given.
    assert table(run_quota(server, {}, fresh())).keys() == {"default"}
    assert table(run_quota(server, {}, fresh(), "--address", "127.0.0.1")).keys() == {"default", "anonymous"}


@while_redis_answers
def test_quota_with_a_plan_and_with_an_address(
    gateway: GatewayProcess, server: RedisServer, settings: dict[str, Any]
) -> None:
    subject = fresh()
    assert gateway.get("/api/devices", bearer(subject, plan="pro")).status == 200
    assert table(run_quota(server, settings, subject, "--claim", "plan=pro"))["default.pro"][:2] == ["1", "7"]
    server.ask("FLUSHALL")
    assert gateway.get("/api/devices").status == 401
    assert table(run_quota(server, settings, "--address", "127.0.0.1"))["anonymous"][0] == "1"


def test_quota_needs_a_subject_or_an_address(server: RedisServer, settings: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="give SUBJECT or --address"):
        run_quota(server, settings)


def test_commands_find_the_private_redis_of_a_running_gateway(
    start_gateway: Callable[..., GatewayProcess], settings: dict[str, Any], upstream: ScriptedUpstream
) -> None:
    # Commands find the private Redis by the address of the gateway, so the address must be known.
    settings = settings | {"server": {"bind": f"127.0.0.1:{free_port()}"}}
    gateway = start_gateway(settings, workers=1)
    subject = fresh()
    assert gateway.get("/api/devices", bearer(subject)).status == 200
    assert len(upstream.requests) == 1
    assert table(flask("quota", subject, settings=settings))["default"][0] == "1"
    gateway.stop()
    with pytest.raises(AssertionError, match="no gateway with a private Redis listens at 127"):
        flask("quota", subject, settings=settings)


def test_a_cost_above_every_limit_is_a_configuration_error(settings: dict[str, Any]) -> None:
    services = {
        "devices": {"cost": 6, "routes": [{"path": "/api/devices/a", "limits": ["9/second burst 3"], "cost": 4}]}
    }
    with pytest.raises(AssertionError) as caught:
        flask("check", settings={"ratelimit": {"default": "5/day", "anonymous": "9/day"}, "services": services})
    assert "services.devices.cost: 6 is more than '5/day' can ever allow" in str(caught.value)
    assert "services.devices.routes[0].cost: 4 is more than '9/second burst 3' can ever allow" in str(caught.value)
