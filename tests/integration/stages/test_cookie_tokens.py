"""Tokens in a cookie. The gateway forwards such a token as Authorization, a header that EventSource and pages can't
set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.commands import flask
from tests.support.configuration import errors_of
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer, signed
from tests.support.upstream import ScriptedUpstream

ORIGIN = ("Origin", "https://app.example.com")


@pytest.fixture(scope="module")
def settings(module_upstream: ScriptedUpstream) -> dict[str, Any]:
    tree = four_services(module_upstream.url)
    tree["services"]["open"] = {"prefix": "/open", "targets": [module_upstream.url], "auth": "none"}
    jwt = {"cookie": "session", "cookie_as_authorization": True}
    return tree | {"jwt": jwt, "cors": {"origins": [ORIGIN[1]], "credentials": True}}


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], settings: dict[str, Any]) -> GatewayProcess:
    return start_gateway(settings, workers=1)


def cookie(token: str, more: str = "theme=dark") -> tuple[str, str]:
    return ("Cookie", f"{more}; session={token}")


@pytest.mark.parametrize("target", ["/api/devices", "/open"])
def test_services_get_the_cookies_token_as_authorization_and_the_cookie_unchanged(
    gateway: GatewayProcess, upstream: ScriptedUpstream, target: str
) -> None:
    token = signed()
    reply = gateway.get(target, cookie(token), ORIGIN)
    assert (reply.status, reply.value("Access-Control-Allow-Credentials")) == (200, "true")
    (received,) = upstream.requests
    assert received.values("Authorization") == [f"Bearer {token}"]
    assert received.values("Cookie") == [f"theme=dark; session={token}"]
    assert received.values("X-User-Subject") == ["ada@example.com"]


def test_a_client_cannot_remove_the_added_authorization(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    token = signed()
    assert gateway.get("/api/devices", cookie(token), ("Connection", "authorization")).status == 200
    assert upstream.requests[-1].values("Authorization") == [f"Bearer {token}"]


def test_a_clients_own_authorization_is_forwarded_unchanged(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    sent = bearer("bob")
    assert gateway.get("/api/devices", sent, cookie(signed("eve"))).status == 200
    (received,) = upstream.requests
    assert (received.values("Authorization"), received.values("X-User-Subject")) == ([sent[1]], ["bob"])
    # On a public route another scheme than Bearer is forwarded unchanged, although the cookie has a valid token.
    assert gateway.get("/open", ("Authorization", "Basic YTpi"), cookie(signed())).status == 200
    assert upstream.requests[-1].values("Authorization") == ["Basic YTpi"]


@pytest.mark.parametrize("bad", ["x", "", signed(exp=1), f"{signed()} x", signed()[:-2] + "AA"])
def test_an_invalid_token_is_not_forwarded_as_authorization(
    gateway: GatewayProcess, upstream: ScriptedUpstream, bad: str
) -> None:
    assert gateway.get("/open", cookie(bad)).status == 200
    assert upstream.requests[-1].values("Authorization") == []
    assert gateway.get("/api/devices", cookie(bad)).status == 401


def test_explain_shows_the_added_authorization_without_its_value(settings: dict[str, Any]) -> None:
    token = signed()
    text = flask("explain", "GET", "/api/devices", "-H", f"Cookie: session={token}", settings=settings)
    assert "    + Authorization: Bearer …" in text
    assert token not in text


def test_cookie_as_authorization_requires_a_cookie_name() -> None:
    assert errors_of({"jwt": {"cookie_as_authorization": True}}) == ["jwt.cookie_as_authorization: needs cookie"]
