"""Revoked tokens are refused by all gateways on one Redis, without an additional round trip."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.support.commands import flask
from tests.support.gateway import GatewayProcess, four_services
from tests.support.redis import RedisServer, calls_of, revoke_token
from tests.support.tokens import signed
from tests.support.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def gateways(
    start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream, server: RedisServer
) -> list[GatewayProcess]:
    environ = {"REDIS_URL": server.url}
    # The timeout is long enough for a busy machine.
    settings = four_services(module_upstream.url) | {"redis_timeout_seconds": 5}
    return [start_gateway(settings, workers=1, environ=environ) for _ in range(2)]


def statuses(gateways: list[GatewayProcess], token: str) -> list[int]:
    return [gateway.get("/api/devices", ("Authorization", f"Bearer {token}")).status for gateway in gateways]


def test_a_token_is_revoked_by_its_id_on_both_gateways(gateways: list[GatewayProcess], server: RedisServer) -> None:
    token, other = signed("ada", jti="token-1"), signed("ada", jti="token-2")
    assert statuses(gateways, token) == [200, 200]
    assert "jti token-1" in flask("revoke", "--jti", "token-1", environ={"REDIS_URL": server.url})
    assert statuses(gateways, token) == [401, 401]
    assert statuses(gateways, other) == [200, 200]
    reply = gateways[0].get("/api/devices", ("Authorization", f"Bearer {token}"))
    assert "revoked" in (reply.value("WWW-Authenticate") or "")
    assert "jti token-1" in flask("revoked", environ={"REDIS_URL": server.url})
    flask("revoke", "--jti", "token-1", "--undo", environ={"REDIS_URL": server.url})
    assert statuses(gateways, token) == [200, 200]


def test_all_tokens_of_a_subject_are_revoked(gateways: list[GatewayProcess], server: RedisServer) -> None:
    now = int(time.time())
    old, undated, other = signed("bob", iat=now - 10), signed("bob"), signed("carol", iat=now - 10)
    assert statuses(gateways, old) == statuses(gateways, undated) == [200, 200]
    assert "sub bob" in flask("revoke", "--sub", "bob", environ={"REDIS_URL": server.url})
    assert statuses(gateways, old) == statuses(gateways, undated) == [401, 401]
    assert statuses(gateways, other) == [200, 200]
    # This token was issued after the revocation. Its iat may be some seconds in the future, within the leeway.
    assert statuses(gateways, signed("bob", iat=int(time.time()) + 3)) == [200, 200]


def test_a_revoked_caller_is_anonymous_on_a_public_route(
    gateways: list[GatewayProcess], server: RedisServer, upstream: ScriptedUpstream
) -> None:
    token = signed("dave", jti="token-9")
    revoke_token(server, "token-9")
    reply = gateways[0].request("POST", "/api/auth/login", [("Authorization", f"Bearer {token}")])
    assert reply.status == 200
    assert upstream.only.values("x-user-subject") == []


def test_the_lookup_is_no_additional_command(gateways: list[GatewayProcess], server: RedisServer) -> None:
    token = signed("erin", jti="token-3")
    assert statuses(gateways, token) == [200, 200]
    before = calls_of(server.client(), ["evalsha"])
    assert statuses(gateways, token) == [200, 200]
    after = calls_of(server.client(), ["evalsha"])
    assert after["evalsha"] - before["evalsha"] == 2


@pytest.mark.parametrize(("policy", "status"), [("open", 200), ("closed", 503)])
def test_on_redis_failure_of_revocations(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream, policy: str, status: int
) -> None:
    gateway = start_gateway(
        four_services(upstream.url) | {"revocation": {"on_redis_failure": policy}},
        workers=1,
        environ={"REDIS_URL": "redis://127.0.0.1:1/0"},
    )
    assert statuses([gateway], signed("ada")) == [status]
    assert "revocations can't be looked up" in gateway.output()


def test_odd_names_and_times_on_the_command_line(server: RedisServer) -> None:
    environ = {"REDIS_URL": server.url}
    output = flask("revoke", "--jti", "x\nsub forged\x1b[31m\x07", environ=environ)
    assert output.startswith("jti x\\nsub forged")
    assert output.count("\n") == 1
    assert "\nsub forged" not in flask("revoked", environ=environ)
    # The first time does not exist as a date; the second one is past, so the revocation would have no effect.
    for moment in ("99999999999999", "-5"):
        flask("revoke", "--jti", "y", "--expires-at", moment, environ=environ, code=2)
