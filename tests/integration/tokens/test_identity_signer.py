"""Signed identity: a real FastAPI service verifies it with the code of docs/tokens.md."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.client import exchange, request_bytes
from tests.support.documentation import PAGES, blocks
from tests.support.forging import sealed
from tests.support.gateway import GatewayProcess, four_services
from tests.support.services import FastAPIService
from tests.support.tokens import bearer, signed
from tests.support.upstream import ScriptedUpstream

StartGateway = Callable[..., GatewayProcess]
FIELD = "X-Gateway-Identity"
SIGN = {"identity": {"sign": True}}


@pytest.fixture(scope="module")
def signing(start_gateway: StartGateway, module_upstream: ScriptedUpstream) -> GatewayProcess:
    return start_gateway(four_services(module_upstream.url) | SIGN)


def keys_of(gateway: GatewayProcess) -> dict[str, jwt.PyJWK]:
    return {str(key.key_id): key for key in jwt.PyJWKSet.from_dict(gateway.get("/.well-known/jwks.json").json()).keys}


def received_claims(gateway: GatewayProcess, upstream: ScriptedUpstream, service: str) -> dict[str, Any]:
    """Verifies the identity token of the last request that the upstream received. Returns its claims."""
    (token,) = upstream.requests[-1].values(FIELD)
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "ES256", "typ": "identity+jwt", "kid": header["kid"]}
    claims: dict[str, Any] = jwt.decode(
        token, keys_of(gateway)[header["kid"]], ["ES256"], audience=service, issuer="gateway"
    )
    return claims


def test_the_service_receives_a_signed_identity(signing: GatewayProcess, upstream: ScriptedUpstream) -> None:
    before = int(time.time())
    assert signing.get("/api/devices", bearer("ada", user_id=7, scope="b a", secret_claim="x")).status == 200
    claims = received_claims(signing, upstream, "devices")
    assert before <= claims.pop("iat") <= time.time()
    assert before < claims.pop("exp") <= time.time() + 60
    assert claims == {"iss": "gateway", "sub": "ada", "aud": "devices", "user_id": 7, "scope": "a b"}
    assert signing.get("/api/rules", bearer("ada")).status == 200
    assert received_claims(signing, upstream, "rules")["aud"] == "rules"


def test_the_identity_expires_with_the_callers_token(signing: GatewayProcess, upstream: ScriptedUpstream) -> None:
    expires_at = int(time.time()) + 20
    assert signing.get("/api/devices", bearer("ada", exp=expires_at)).status == 200
    assert received_claims(signing, upstream, "devices")["exp"] == expires_at


def test_claims_of_the_token_do_not_overwrite_those_of_the_gateway(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    names = {"sub": "X-User-Subject", "iss": "X-Issuer", "aud": "X-Audience", "scope": "X-Scope", "exp": "X-Exp"}
    gateway = start_gateway(
        four_services(upstream.url) | SIGN | {"jwt": {"claims_to_headers": names, "audience": "rules"}}, workers=1
    )
    assert gateway.get("/api/devices", bearer("ada", iss="evil", aud="rules", scope=["x"])).status == 200
    claims = received_claims(gateway, upstream, "devices")
    assert (claims["iss"], claims["aud"], claims["scope"]) == ("gateway", "devices", "x")


def test_the_header_of_a_client_is_dropped(signing: GatewayProcess, upstream: ScriptedUpstream) -> None:
    for name in (FIELD, FIELD.lower(), "X_Gateway_Identity", "X-Gateway_Identity"):
        signing.get("/api/devices", bearer(), (name, "forged"))
        assert "forged" not in upstream.requests[-1].values(FIELD)
        assert signing.request("POST", "/api/auth/login", [(name, "forged")]).status == 200
        assert upstream.requests[-1].values(FIELD) == []


def test_all_workers_sign_with_one_key(signing: GatewayProcess, upstream: ScriptedUpstream) -> None:
    for number in range(20):
        signing.get("/api/devices", bearer(f"user-{number}"))
        received_claims(signing, upstream, "devices")
    assert len(keys_of(signing)) == 1
    document = signing.get("/.well-known/jwks.json")
    assert document.value("Content-Type") == "application/json"
    assert "max-age" in (document.value("Cache-Control") or "")
    assert '"d"' not in document.body.decode()


def test_without_identity_there_is_no_header_and_no_key_set(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    assert gateway.get("/api/devices", bearer()).status == 200
    assert upstream.only.values(FIELD) == []
    assert gateway.get("/.well-known/jwks.json").status == 404


def test_the_documented_dependency_accepts_only_tokens_of_the_gateway(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    (snippet,) = blocks(PAGES["docs/tokens.md"], "python")
    # The service needs the address of the gateway, and the gateway needs the address of the service.
    holder = start_gateway(SIGN, workers=1)
    source = snippet.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{holder.port}")
    assert source != snippet
    with FastAPIService(tmp_path, source) as service:
        gateway = start_gateway(SIGN | four_services(service.url), workers=1)
        reply = gateway.get("/api/devices", bearer("ada", user_id=7))
        assert reply.status == 200
        assert (reply.json()["sub"], reply.json()["user_id"]) == ("ada", 7)

        def ask_directly(*fields: tuple[str, str]) -> int:
            return exchange(service.port, request_bytes("GET", "/api/devices", fields)).status

        assert ask_directly() == 422
        now = int(time.time())
        claims = {"iss": "gateway", "sub": "ada", "aud": "devices", "iat": now, "exp": now + 60}
        (kid,) = keys_of(gateway)
        by_secret, by_nobody = sealed({"alg": "HS256", "kid": kid}, claims), sealed({"alg": "none"}, claims)
        for forged in (
            "x",
            signed("ada"),
            by_secret,
            by_nobody,
        ):
            assert ask_directly((FIELD, forged)) == 401
        # The gateway has signed this token for another service.
        with ScriptedUpstreamOf(start_gateway) as (other, upstream):
            assert other.get("/api/rules", bearer("ada")).status == 200
            (token,) = upstream.only.values(FIELD)
        assert ask_directly((FIELD, token)) == 401


class ScriptedUpstreamOf:
    """A context manager: a gateway that signs identity tokens, and an upstream that records its requests."""

    def __init__(self, start_gateway: StartGateway) -> None:
        self._upstream = ScriptedUpstream()
        self._gateway = start_gateway(SIGN | four_services(self._upstream.url), workers=1)

    def __enter__(self) -> tuple[GatewayProcess, ScriptedUpstream]:
        return self._gateway, self._upstream

    def __exit__(self, *_: object) -> None:
        self._upstream.close()
