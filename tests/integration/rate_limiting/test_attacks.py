"""Rate limits with odd plan names, with equal names, and with hostile callers."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.redis import RedisServer, while_redis_answers
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

numbers = count(1)
ODD_PLANS = ('p"x', "back\\slash", "é€", "a\nX-Injected: 1", "a\x1b\x7f", "50%")
# The names in RateLimit (an Item) and in RateLimit-Policy (a List) are strings (RFC 8941 3.1, 3.3.3).
NAME = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
RATE_LIMIT = re.compile(rf"{NAME};r=[0-9]+;t=[0-9]+")
POLICIES = re.compile(rf"{NAME};q=[0-9]+;w=[0-9]+(, {NAME};q=[0-9]+;w=[0-9]+)*")


def fresh() -> str:
    return f"caller-{next(numbers)}"


@pytest.fixture(scope="module")
def gateway(
    start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream, server: RedisServer
) -> GatewayProcess:
    urls = [module_upstream.url]
    plans = {name: ["5/day", "50/day"] for name in ODD_PLANS}
    settings: dict[str, Any] = {
        "default_services": False,
        "proxy": {"trusted_hops": 1},
        "ratelimit": {"default": "5/day", "plans": plans | {"pro": ["5/day"]}, "exempt_addresses": ["10.1.0.0/16"]},
        "services": {
            "devices": {
                "prefix": "/api/devices",
                "targets": urls,
                "plans": {"admin": ["5/day"]},
                "routes": [{"path": "/api/devices/admin", "limits": ["5/day"]}],
            },
            "default": {"prefix": "/api/default", "targets": urls, "limits": ["5/day"], "plans": {"pro": ["5/day"]}},
            "rules": {"prefix": "/api/rules", "targets": urls},
            "costly": {"prefix": "/api/costly", "targets": urls, "limits": ["1000/day"], "cost": 100},
        },
    }
    return start_gateway(settings, environ={"REDIS_URL": server.url, "GATEWAY_RATELIMIT__ANONYMOUS": "60/day"})


@pytest.mark.parametrize("plan", ODD_PLANS)
def test_header_fields_are_valid_for_any_plan_name(
    gateway: GatewayProcess, upstream: ScriptedUpstream, plan: str
) -> None:
    assert upstream.requests == []
    reply = gateway.get("/api/rules", bearer(fresh(), plan=plan))
    assert reply.status == 200
    assert RATE_LIMIT.fullmatch(reply.value("RateLimit") or "")
    assert POLICIES.fullmatch(reply.value("RateLimit-Policy") or "")
    assert reply.value("X-RateLimit-Limit") == "5"
    assert reply.value("X-Injected") is None


@while_redis_answers
def test_limits_with_equal_names_have_their_own_counters(gateway: GatewayProcess) -> None:
    # Equal names: in the first line the plan `admin` and the route `admin` of devices, in the others the service
    # `default` and the default limit.
    for plan, paths in [
        ("admin", ("/api/devices", "/api/devices/admin")),
        ("", ("/api/default", "/api/rules")),
        ("pro", ("/api/default", "/api/rules")),
    ]:
        who = bearer(fresh(), plan=plan)
        for path in paths:
            assert gateway.get(path, who).value("X-RateLimit-Remaining") == "4", (plan, path)


@while_redis_answers
def test_a_missing_token_is_reported_on_a_costly_route(gateway: GatewayProcess) -> None:
    fields = ("X-Forwarded-For", f"198.51.100.{next(numbers)}")
    assert gateway.get("/api/costly", fields).value("X-Gateway-Error") == "missing_token"
    assert gateway.get("/api/costly", fields).status == 429


@while_redis_answers
def test_an_exempt_address_is_exempt_in_ipv6_notation(gateway: GatewayProcess) -> None:
    for address, is_exempt in [("::ffff:10.1.2.3", True), ("::ffff:a01:203", True), ("::ffff:10.2.2.3", False)]:
        reply = gateway.get("/api/rules", bearer(fresh()), ("X-Forwarded-For", address))
        assert (reply.value("X-RateLimit-Limit") is None) == is_exempt, address


def test_observe_mode_refuses_nothing_while_redis_is_down(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream
) -> None:
    own = {"prefix": "/api/a", "targets": [upstream.url], "limits": ["1/day"], "on_redis_failure": "closed"}
    services = {"a": own | {"limits_mode": "observe"}, "b": own | {"prefix": "/api/b"}}
    with RedisServer() as server:
        gateway = start_gateway(
            {"default_services": False, "services": services}, workers=1, environ={"REDIS_URL": server.url}
        )
        server.kill()
        replies = [gateway.get("/api/a", bearer(who)) for who in [fresh()] * 3]
        assert [reply.status for reply in replies] == [200, 200, 200]
        assert replies[-1].value("X-RateLimit-Observed") == '"a"'
        assert gateway.get("/api/b", bearer(fresh())).status == 503
