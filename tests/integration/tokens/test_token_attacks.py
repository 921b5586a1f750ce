"""Tokens with odd and hostile content, through the gateway: 200 or 401, never 500."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.forging import HS256, sealed, segment, unsealed
from tests.support.gateway import GatewayProcess, four_services
from tests.support.issuer import Issuer
from tests.support.redis import RedisServer
from tests.support.upstream import ScriptedUpstream

LATER = 9_999_999_999
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 1.5, 1e308, float("nan"), float("inf"), 10**400,
    "", " ", "x", "\ud800", "\0\r\nX-Evil: 1", "x" * 3000, "é" * 400, "\U0001f511",
    [], [None], [1], ["x"], [["x"]], [{}], ["\ud800", "\r\n"], ["x"] * 300, {}, {"x": 1}, {"x": {"\ud800": []}},
]  # fmt: skip


@pytest.fixture(scope="module")
def gateway(
    start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream
) -> Iterator[GatewayProcess]:
    """A gateway with counters and revocations in Redis. It passes every claim to services."""
    names = ("sub", "aud", "iss", "jti", "scope", "exp", "nbf", "iat", "odd", "odd.x")
    jwt = {"claims_to_headers": {name: f"X-Claim-{number}" for number, name in enumerate(names)}}
    with RedisServer() as server:
        settings = four_services(module_upstream.url) | {"jwt": jwt}
        settings["services"]["rules"]["scopes"] = ["x"]
        yield start_gateway(settings, workers=1, environ={"REDIS_URL": server.url})


def statuses(gateway: GatewayProcess, token: str) -> set[int]:
    """The statuses of a token on three routes: one that needs a token, one that needs a scope, and a public one."""
    field = ("Authorization", f"Bearer {token}")
    found = set()
    with Connection(gateway.port) as connection:
        for method, path in (("GET", "/api/devices"), ("GET", "/api/rules"), ("POST", "/api/auth/login")):
            connection.send(request_bytes(method, path, [field]))
            found.add(connection.reply(method).status)
    return found


@pytest.mark.parametrize("name", ["sub", "jti", "aud", "iss", "scope", "scp", "exp", "nbf", "iat", "odd"])
def test_claims_of_any_type(gateway: GatewayProcess, upstream: ScriptedUpstream, name: str) -> None:
    for odd in ODD:
        found = statuses(gateway, sealed(HS256, {"sub": "ada", "exp": LATER, name: odd}))
        assert found <= {200, 401, 403}, odd
        # The public route accepts requests without a token, so it may ignore an invalid one.
        assert 200 in found
    for request in upstream.requests:
        assert request.values("x-evil") == []
        assert request.head.isascii()
        assert len(request.values("x-claim-0")) <= 1
    assert "Traceback" not in gateway.output()


@pytest.mark.parametrize("name", ["alg", "kid", "typ", "cty", "crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "odd"])
def test_header_parameters_of_any_type(gateway: GatewayProcess, upstream: ScriptedUpstream, name: str) -> None:
    for odd in ODD:
        for token in (
            sealed({**HS256, name: odd}, {"sub": "ada", "exp": LATER}),
            unsealed({**HS256, name: odd}, {"sub": "ada", "exp": LATER}),
        ):
            assert statuses(gateway, token) <= {200, 401, 403}, odd
    assert "Traceback" not in gateway.output()


def test_kids_of_any_type_with_a_key_set(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream
) -> None:
    issuer = Issuer()
    issuer.add_key("one", "ES256")
    issuer.add_key("two", "EdDSA")
    jwt = {"jwks_url": issuer.jwks_url, "issuer": issuer.url}
    gateway = start_gateway(
        four_services(upstream.url) | {"jwt": jwt}, workers=1, environ={"GATEWAY_JWT__SECRET": None}
    )
    assert statuses(gateway, issuer.token("one")) == {200}
    upstream.reset()
    for odd in [*ODD, "../../../dev/null", "' OR '1'='1", issuer.url, "x" * 4000]:
        for alg in ("ES256", "EdDSA", "none", "HS256", odd):
            token = unsealed({"alg": alg, "kid": odd}, {"sub": "ada", "iss": issuer.url, "exp": LATER}, b"x" * 64)
            assert gateway.get("/api/devices", ("Authorization", f"Bearer {token}")).status == 401
    assert upstream.requests == []
    assert issuer.fetches == 2
    issuer.close()


def test_tokens_of_a_megabyte_are_never_a_500(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    """Sending may fail: if the gateway responds before it has read everything, it closes the connection."""
    size = 2**20
    valid = sealed(HS256, {"sub": "ada", "exp": LATER})
    for huge in (
        valid + "A" * size,
        "." * size,
        sealed({**HS256, "kid": "x" * size}, {"sub": "ada", "exp": LATER}),
        sealed(HS256, {"sub": "x" * size, "exp": LATER}),
        f"{segment(b'[' * size)}.e30.AA",
    ):
        for field in (("Authorization", f"Bearer {huge}"), ("Cookie", f"session={huge}")):
            with Connection(gateway.port) as connection:
                try:
                    connection.send(request_bytes("GET", "/api/devices", [field]))
                    assert connection.reply().status in (400, 401, 431)
                except (BrokenPipeError, ConnectionResetError):
                    pass
    # These tokens fit into a header field, but are longer than a token may be.
    for size in (6200, 9000, 12_000):
        token = sealed(HS256, {"sub": "ada", "exp": LATER, "odd": "x" * size})
        assert gateway.get("/api/devices", ("Authorization", f"Bearer {token}")).status == 401
    assert upstream.requests == []
    assert gateway.get("/api/devices", ("Authorization", f"Bearer {valid}")).status == 200
    assert "Traceback" not in gateway.output()
    assert not [line for line in gateway.access_log() if line["status"] >= 500]


def test_ambiguous_json_is_refused(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    payload = b'{"sub":"root","sub":"ada","exp":%d}' % LATER
    for token in (sealed(HS256, payload), sealed(b'{"alg":"none","alg":"HS256"}', {"sub": "ada", "exp": LATER})):
        assert gateway.get("/api/devices", ("Authorization", f"Bearer {token}")).status == 401
    gateway.wait_for_log(lambda line: "a name occurs twice in an object" in str(line["cause"]))
    assert upstream.requests == []
    deep = json.dumps({"sub": "ada", "exp": LATER})[:-1].encode() + b',"odd":' + b"[" * 2500 + b"]" * 2500 + b"}"
    assert gateway.get("/api/devices", ("Authorization", f"Bearer {sealed(HS256, deep)}")).status == 401


def test_an_unreadable_token_is_not_quoted_in_the_log(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream
) -> None:
    issuers = [{"issuer": name, "secret": f"{name} " * 20} for name in ("a", "b")]
    gateway = start_gateway(
        four_services(upstream.url) | {"jwt": {"issuers": issuers}}, workers=1, environ={"GATEWAY_JWT__SECRET": None}
    )
    payload, header = segment(b'{"iss":"a","sub":"private-\xff"}'), segment(b'{"alg":"HS256"}')
    for token in (f"h.{payload}.s", f"{header}.{payload}.c2ln"):
        assert gateway.get("/api/devices", ("Authorization", f"Bearer {token}")).status == 401
    gateway.wait_for_log(lambda line: line["status"] == 401 and "Unicode" in str(line["cause"]))
    assert "private-" not in gateway.output()
