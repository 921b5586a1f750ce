"""Issuers with key sets: rotation, failures, timeouts, and odd or hostile content."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import jwt
import pytest

from gateway import create_app
from tests.support.client import Connection, Reply, request_bytes
from tests.support.configuration import loaded
from tests.support.gateway import GatewayProcess, four_services
from tests.support.issuer import Issuer
from tests.support.tokens import SECRET, bearer, signed
from tests.support.upstream import ScriptedUpstream

StartGateway = Callable[..., GatewayProcess]


FAILURES = ("down", "hanging", "status", "garbage", "oversized")
LEGACY = {"issuer": "https://legacy.test", "secret": "s" * 40}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.close()


@pytest.fixture(scope="module")
def issuers() -> Iterator[dict[str, Issuer]]:
    """Issuers by name: one for each kind of failure, and four more. Each publishes the same key at the start."""
    running = {name: Issuer() for name in ("rotating", "one", "two", "withdrawing", *FAILURES)}
    for one in running.values():
        one.add_key("known")
    yield running
    for one in running.values():
        one.close()


def source(issuer: Issuer) -> dict[str, str]:
    return {"issuer": issuer.url, "jwks_url": issuer.jwks_url}


@pytest.fixture(scope="module")
def trusting(
    start_gateway: StartGateway, module_upstream: ScriptedUpstream, issuers: dict[str, Issuer]
) -> GatewayProcess:
    """A gateway with several issuers; one of them is down from the start."""
    trusted = [
        {"issuer": "https://dead.test", "jwks_url": "http://127.0.0.1:1/jwks.json"},
        source(issuers["rotating"]),
        source(issuers["one"]),
        source(issuers["two"]) | {"audience": "gateway"},
        LEGACY,
    ]
    return gateway_for(start_gateway, module_upstream, {"issuers": trusted})


@pytest.fixture(scope="module")
def refreshing(
    start_gateway: StartGateway, module_upstream: ScriptedUpstream, issuers: dict[str, Issuer]
) -> GatewayProcess:
    """A gateway that refreshes the keys of its issuers without a pause."""
    trusted = [source(issuers[name]) for name in ("withdrawing", *FAILURES)]
    return gateway_for(start_gateway, module_upstream, {"issuers": trusted, "jwks_refresh_seconds": 1})


def gateway_for(
    start_gateway: StartGateway, upstream: ScriptedUpstream, jwt_settings: dict[str, Any], workers: int = 1
) -> GatewayProcess:
    return start_gateway(
        four_services(upstream.url) | {"jwt": jwt_settings}, workers=workers, environ={"GATEWAY_JWT__SECRET": None}
    )


def ask(gateway: GatewayProcess, token: str) -> Reply:
    return gateway.get("/api/devices", ("Authorization", f"Bearer {token}"))


def code(reply: Reply) -> tuple[int, str | None]:
    return reply.status, reply.value("X-Gateway-Error")


def test_each_kind_of_key_verifies_its_own_algorithm(
    start_gateway: StartGateway, upstream: ScriptedUpstream, issuer: Issuer
) -> None:
    kinds = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
    for algorithm in kinds:
        issuer.add_key(algorithm, algorithm)
    gateway = gateway_for(start_gateway, upstream, {"jwks_url": issuer.jwks_url, "issuer": issuer.url})
    assert [ask(gateway, issuer.token(algorithm)).status for algorithm in kinds] == [200] * len(kinds)
    # The signatures are valid, but the key is not meant for these algorithms.
    assert code(ask(gateway, issuer.token("RS256", algorithm="RS512"))) == (401, "invalid_token")
    assert code(ask(gateway, issuer.token("RS256", algorithm="PS256"))) == (401, "invalid_token")
    # The first token is signed with a secret that is not configured; the second one names another issuer.
    assert code(ask(gateway, signed())) == (401, "invalid_token")
    assert code(ask(gateway, issuer.token("ES256", iss="https://other.test"))) == (401, "invalid_token")
    assert issuer.fetches <= 2


def test_a_new_key_is_fetched_at_once_and_random_ids_cause_few_fetches(
    trusting: GatewayProcess, issuers: dict[str, Issuer]
) -> None:
    issuer = issuers["rotating"]
    assert ask(trusting, issuer.token("known")).status == 200
    issuer.add_key("new")
    assert ask(trusting, issuer.token("new")).status == 200
    assert ask(trusting, issuer.token("known")).status == 200
    before = issuer.fetches
    for number in range(20):
        issuer.keys[f"random-{number}"] = issuer.keys["known"]
        assert code(ask(trusting, issuer.token(f"random-{number}"))) == (401, "invalid_token")
    assert issuer.fetches == before


def test_tokens_of_a_removed_key_are_refused_even_if_cached(
    refreshing: GatewayProcess, issuers: dict[str, Issuer]
) -> None:
    issuer = issuers["withdrawing"]
    issuer.add_key("new")
    token = issuer.token("known")
    assert ask(refreshing, token).status == 200
    issuer.withdraw("known")
    refreshing.wait_until(lambda: ask(refreshing, token).status == 401, "forget the key")
    assert ask(refreshing, issuer.token("new")).status == 200


@pytest.mark.parametrize("failure", FAILURES)
def test_known_keys_stay_in_use_while_the_issuer_fails(
    refreshing: GatewayProcess, issuers: dict[str, Issuer], failure: str
) -> None:
    issuer, gateway = issuers[failure], refreshing
    assert ask(gateway, issuer.token("known")).status == 200
    before = issuer.fetches
    match failure:
        case "down":
            issuer.close()
        case "hanging":
            issuer.hang()
        case "status":
            issuer.status = 500
        case "garbage":
            issuer.content = b"<html>"
        case "oversized":
            issuer.content = b" " * 1_000_000
    if failure == "down":
        gateway.wait_until(lambda: f"the keys of {issuer.url} can't be refreshed" in gateway.output(), "notice")
    else:
        assert issuer.wait_for_fetches(before + 1)
    # A new token that is signed with the known key is accepted.
    assert ask(gateway, issuer.token("known", sub="bob@example.com")).status == 200
    issuer.keys["unknown"] = issuer.keys["known"]
    assert code(ask(gateway, issuer.token("unknown"))) == (401, "invalid_token")


def test_503_until_the_first_key_is_loaded(
    start_gateway: StartGateway, upstream: ScriptedUpstream, issuer: Issuer
) -> None:
    issuer.add_key("one")
    issuer.status = 500
    gateway = gateway_for(start_gateway, upstream, {"jwks_url": issuer.jwks_url})
    reply = ask(gateway, issuer.token("one"))
    assert code(reply) == (503, "keys_unavailable")
    assert reply.value("Retry-After") == "1"
    assert gateway.get("/readyz").status == 503
    assert code(gateway.get("/api/devices")) == (401, "missing_token")
    # Routes that need no token still work.
    assert (
        gateway.request("POST", "/api/auth/login", [("Authorization", f"Bearer {issuer.token('one')}")]).status == 200
    )
    issuer.status = 200
    gateway.wait_until(lambda: gateway.get("/readyz").status == 200, "load the keys")
    assert ask(gateway, issuer.token("one")).status == 200


def ask_at_once(gateway: GatewayProcess, tokens: list[str]) -> Counter[tuple[int, str | None]]:
    """Sends all tokens at the same time. Returns how often each status and error code was returned."""
    barrier = Barrier(len(tokens))

    def one(token: str) -> tuple[int, str | None]:
        with Connection(gateway.port) as connection:
            barrier.wait(20)
            connection.send(request_bytes("GET", "/api/devices", [("Authorization", f"Bearer {token}")]))
            return code(connection.reply())

    with ThreadPoolExecutor(len(tokens)) as clients:
        return Counter(clients.map(one, tokens))


def test_many_clients_cause_one_fetch_at_start_and_one_per_rotation(
    start_gateway: StartGateway, upstream: ScriptedUpstream, issuer: Issuer
) -> None:
    issuer.add_key("old")
    gateway = start_gateway(
        four_services(upstream.url) | {"jwt": {"jwks_url": issuer.jwks_url}},
        workers=1,
        environ={"GATEWAY_JWT__SECRET": None},
    )
    passed = (200, None)
    assert ask_at_once(gateway, [issuer.token("old", sub=f"caller-{number}") for number in range(100)]) == {passed: 100}
    assert issuer.fetches == 1
    issuer.add_key("new")
    assert ask_at_once(gateway, [issuer.token("new", sub=f"caller-{number}") for number in range(100)]) == {passed: 100}
    assert issuer.fetches == 2
    for number in range(50):
        issuer.keys[f"random-{number}"] = issuer.keys["old"]
    forged = [issuer.token(f"random-{number}") for number in range(50)]
    assert ask_at_once(gateway, forged) == {(401, "invalid_token"): 50}
    assert issuer.fetches == 2


def test_503_for_all_clients_while_the_first_fetch_hangs(
    start_gateway: StartGateway, upstream: ScriptedUpstream, issuer: Issuer
) -> None:
    issuer.add_key("one")
    issuer.hang()
    gateway = start_gateway(
        four_services(upstream.url) | {"jwt": {"jwks_url": issuer.jwks_url}},
        workers=1,
        environ={"GATEWAY_JWT__SECRET": None},
    )
    tokens = [issuer.token("one", sub=f"caller-{number}") for number in range(50)]
    unavailable = (503, "keys_unavailable")
    assert ask_at_once(gateway, tokens) == {unavailable: 50}
    gateway.wait_until(lambda: "can't be refreshed" in gateway.output(), "notice")
    assert ask_at_once(gateway, tokens) == {unavailable: 50}
    assert issuer.fetches <= 2
    issuer.go_on()
    gateway.wait_until(lambda: gateway.get("/readyz").status == 200, "load the keys")
    assert ask_at_once(gateway, tokens) == {(200, None): 50}


def test_an_issuer_that_is_down_does_not_affect_the_others(
    trusting: GatewayProcess, issuers: dict[str, Issuer]
) -> None:
    issuer = issuers["one"]
    trusting.wait_until(lambda: trusting.get("/readyz").status == 200, "get ready")
    assert trusting.get("/readyz").json()["keys"] == "some never loaded"
    assert ask(trusting, issuer.token("known")).status == 200
    assert code(ask(trusting, issuer.token("known", iss="https://dead.test"))) == (503, "keys_unavailable")


def test_several_issuers_are_bound_to_their_keys(trusting: GatewayProcess, issuers: dict[str, Issuer]) -> None:
    one, two, secret = issuers["one"], issuers["two"], LEGACY["secret"]
    assert ask(trusting, one.token("known")).status == 200
    assert ask(trusting, two.token("known", aud=["x", "gateway"])).status == 200
    assert ask(trusting, signed(key=secret, iss="https://legacy.test")).status == 200
    for refused in (
        two.token("known"),
        two.token("known", aud="gateway", iss=one.url),
        one.token("known", iss=two.url, aud="gateway"),
        one.token("known", iss=None),
        signed(key=secret, iss=one.url),
        signed(key=secret, iss="https://unknown.test"),
        signed(key=secret),
    ):
        assert code(ask(trusting, refused)) == (401, "invalid_token")
    # Two issuers may use the same subject. Each has its own counter.
    first, second = (
        ask(trusting, token) for token in (one.token("known", sub="x"), signed("x", key=secret, iss=LEGACY["issuer"]))
    )
    assert first.value("X-RateLimit-Remaining") == second.value("X-RateLimit-Remaining")


def test_tokens_of_odd_but_valid_key_sets_are_accepted(
    upstream: ScriptedUpstream, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 7517: `kid` is optional and need not be unique, and a key may be listed more than once."""
    rsa = issuer.add_key("rsa", "RS256")
    issuer.published += [rsa, {**rsa, "alg": "PS256", "use": None}]
    # Keys of several types, and two keys of one type, share an id.
    for name, algorithm in [("ec", "ES256"), ("ed", "EdDSA"), ("second", "RS256")]:
        issuer.add_key(name, algorithm)["kid"] = "rsa"
    del issuer.add_key("nameless", "ES384")["kid"]
    issuer.add_key("nameless too", "ES384")["kid"] = ""
    issuer.add_key("weak", "RS256", n="AQAB")
    issuer.add_key("other use", "RS256", use="enc")
    app = create_app(loaded(four_services(upstream.url) | {"jwt": {"jwks_url": issuer.jwks_url}}))

    def status(name: str, kid: str | None, algorithm: str | None = None) -> int:
        own, key = issuer.keys[name]
        claims = {"sub": "ada", "exp": int(time.time()) + 600}
        token = jwt.encode(claims, key, algorithm or own, headers={} if kid is None else {"kid": kid})
        return app.test_client().get("/api/devices", headers={"Authorization": f"Bearer {token}"}).status_code

    for name, by in [("rsa", "RS256"), ("rsa", "PS256"), ("ec", None), ("ed", None), ("second", None)]:
        # The second request uses the cached token headers.
        assert [status(name, "rsa", by) for _ in range(2)] == [200, 200]
        assert status(name, None, by) == 200
    for name in ("nameless", "nameless too"):
        assert [status(name, kid) for kid in (None, "", "rsa")] == [200, 200, 401]
    for name in ("weak", "other use"):
        assert [status(name, kid) for kid in (name, None)] == [401, 401]
    (line,) = [record.getMessage() for record in caplog.records if "not all keys" in record.getMessage()]
    assert line == ("not all keys of jwt are used: key 9 (kid 'weak') can't be read: its parameters make no key")


def test_a_key_without_an_id_is_replaced(upstream: ScriptedUpstream, issuer: Issuer) -> None:
    app = create_app(loaded(four_services(upstream.url) | {"jwt": {"jwks_url": issuer.jwks_url}}))

    def status(name: str) -> int:
        token = jwt.encode({"sub": "ada", "exp": int(time.time()) + 600}, issuer.keys[name][1], "ES256")
        return app.test_client().get("/api/devices", headers={"Authorization": f"Bearer {token}"}).status_code

    del issuer.add_key("old")["kid"]
    assert status("old") == 200
    issuer.published.clear()
    del issuer.add_key("new")["kid"]
    assert [status("new"), status("old")] == [200, 401]
    issuer.add_key("foreign")
    fetches = issuer.fetches
    assert [status("foreign") for _ in range(3)] == [401] * 3
    assert issuer.fetches == fetches == 2


@pytest.mark.parametrize(
    ("settings", "claims", "status"),
    [
        ({"max_lifetime_seconds": 60}, {"exp": 2_000_000_000, "iat": 1_700_000_000}, 401),
        ({"max_lifetime_seconds": 60}, {}, 401),
        ({"audience": ["a", "b"]}, {"aud": "b"}, 200),
        ({"audience": "a"}, {"aud": ["b"]}, 401),
        ({}, {"aud": "somebody"}, 401),
        ({"token_type": "JWT"}, {}, 200),
        ({"token_type": "at+jwt"}, {}, 401),
        ({"token_type": "application/JWT"}, {}, 200),
    ],
)
def test_settings_for_claims(
    upstream: ScriptedUpstream, settings: dict[str, Any], claims: dict[str, Any], status: int
) -> None:
    app = create_app(loaded(four_services(upstream.url) | {"jwt": {"secret": SECRET, **settings}}))
    name, value = bearer(**claims)
    assert app.test_client().get("/api/devices", headers={name: value}).status_code == status


def test_nested_claims_scopes_and_the_cookie(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    services = four_services(upstream.url)
    services["services"]["devices"]["scopes"] = ["devices:write"]
    names = {"sub": "X-User-Subject", "realm_access.roles": "X-Roles", "tenant": "X-Tenant"}
    gateway = start_gateway(
        services | {"jwt": {"scope_claim": "realm_access.roles", "cookie": "session", "claims_to_headers": names}},
        workers=1,
    )
    valid = signed(realm_access={"roles": ["devices:write", "b"]}, tenant="t\r\nX-Evil: 1")
    assert ask(gateway, valid).status == 200
    assert upstream.only.values("x-roles") == ["devices:write,b"]
    assert upstream.only.values("x-tenant") == ["t%0D%0AX-Evil: 1"]
    assert upstream.only.values("x-evil") == []
    assert code(ask(gateway, signed(scope="devices:write"))) == (403, "insufficient_scope")
    assert gateway.get("/api/devices", ("Cookie", f"a=1; session={valid}")).status == 200
    assert gateway.get("/api/devices", ("Cookie", f"xsession={valid}")).status == 401
    assert gateway.get("/api/devices", ("Cookie", f"session={valid}; session=x")).status == 400
    assert gateway.get(f"/api/devices?access_token={valid}").status == 401
    assert gateway.get("/api/devices", ("Cookie", f"session={valid}"), ("Authorization", "Bearer x")).status == 401
