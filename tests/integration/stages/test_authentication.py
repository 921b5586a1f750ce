"""Which requests pass authentication, and which identity headers services receive: only those that the gateway sets."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.client import Connection, Reply, exchange, request_bytes
from tests.support.forging import HS256, public_pem, rsa_key, sealed, segment, unsealed
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import SECRET, bearer, signed
from tests.support.upstream import ScriptedUpstream

OTHER_SECRET = "another-secret-0123456789abcdef-0123456789"
ISSUER, AUDIENCE = "https://id.example", "gateway"
PUBLIC_ROUTES = ["/api/auth/login", "/api/auth/register", "/api/auth/refresh"]
QUOTED = re.compile(r'Bearer error="([a-z_]+)", (?:error_description|scope)="([^"\\]+)"')


def authorization(token: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {token}")


def expired() -> str:
    return signed(exp=int(time.time()) - 60)


def claims(**more: object) -> dict[str, object]:
    return {"sub": "ada@example.com", "user_id": 42, "exp": int(time.time()) + 3600, **more}


def is_refused(reply: Reply, status: int, code: str) -> bool:
    """Whether the reply is a refusal of the gateway, with consistent status, headers and problem document."""
    assert (reply.status, reply.value("X-Gateway-Error")) == (status, code)
    assert reply.value("Content-Type") == "application/problem+json"
    assert reply.value("Cache-Control") == "no-store"
    document = reply.json()
    assert (document["status"], document["type"]) == (status, f"urn:gateway:problem:{code}")
    assert document["instance"] == reply.value("X-Request-Id")
    return True


def is_invalid_token(reply: Reply) -> bool:
    found = QUOTED.fullmatch(reply.value("WWW-Authenticate") or "")
    assert found is not None
    assert found[1] == "invalid_token"
    assert reply.json()["detail"] == found[2]
    return is_refused(reply, 401, "invalid_token")


def is_missing_token(reply: Reply) -> bool:
    assert reply.value("WWW-Authenticate") == "Bearer"
    return is_refused(reply, 401, "missing_token")


# --- no token, or a token in another place


@pytest.mark.parametrize("path", ["/api/auth/me", "/api/livestreams", "/api/rules/1", "/api/devices", "/api/devices/"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "PROPFIND"])
def test_a_protected_route_requires_a_token(
    gateway: GatewayProcess, upstream: ScriptedUpstream, method: str, path: str
) -> None:
    assert is_missing_token(gateway.request(method, path))
    assert upstream.requests == []


@pytest.mark.parametrize(
    "value",
    ["", "Basic YWRhOmFkYQ==", "Token {}", "JWT {}", "{}", "Bearer{}", "Bearer:{}", "Bearer\t{}", "Bearer,{}"],
)
def test_a_scheme_other_than_bearer_is_no_token(
    gateway: GatewayProcess, upstream: ScriptedUpstream, value: str
) -> None:
    assert is_missing_token(gateway.get("/api/devices", ("Authorization", value.replace("{}", signed()))))
    assert upstream.requests == []


@pytest.mark.parametrize(
    "name", ["X-Authorization", "Proxy-Authorization", "Authorization_", "X-Access-Token", "Authentication", "Bearer"]
)
def test_a_token_in_another_header_is_ignored(gateway: GatewayProcess, upstream: ScriptedUpstream, name: str) -> None:
    assert is_missing_token(gateway.get("/api/devices", (name, f"Bearer {signed()}"), (name, signed())))
    assert upstream.requests == []


def test_a_token_outside_the_header_is_ignored(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    """Only the Authorization header counts: tokens in bodies and queries end up in logs and histories (RFC 6750 2.2,
    2.3)."""
    token = signed()
    for name in ("access_token", "token", "jwt", "bearer", "Authorization"):
        assert is_missing_token(gateway.get(f"/api/devices?{name}={token}"))
        assert is_missing_token(gateway.get(f"/api/devices?{name}=Bearer%20{token}"))
        assert is_missing_token(gateway.get("/api/devices", ("Cookie", f"{name}={token}")))
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    assert is_missing_token(gateway.request("POST", "/api/devices", form, f"access_token={token}".encode()))
    assert upstream.requests == []


# --- invalid tokens


def hostile_tokens() -> dict[str, Callable[[], str]]:
    good = signed()
    header, payload, signature = good.split(".")
    rs256 = {"alg": "RS256", "typ": "JWT"}
    return {
        "expired": expired,
        "not yet valid": lambda: signed(nbf=int(time.time()) + 60),
        "issued in the future": lambda: signed(iat=int(time.time()) + 60),
        "without exp": lambda: signed(exp=None),
        "exp as text": lambda: sealed(HS256, claims(exp="9999999999")),
        "exp infinite": lambda: sealed(HS256, b'{"sub":"ada","exp":Infinity}'),
        "exp huge": lambda: sealed(HS256, b'{"sub":"ada","exp":1' + b"0" * 400 + b"}"),
        "without sub": lambda: sealed(HS256, {"exp": 9999999999}),
        "sub empty": lambda: signed(""),
        "sub a number": lambda: sealed(HS256, claims(sub=1)),
        "none": lambda: unsealed({"alg": "none"}, claims()),
        "None with a signature": lambda: sealed({"alg": "None"}, claims()),
        "no algorithm": lambda: sealed({"typ": "JWT"}, claims()),
        "HS512": lambda: sealed({"alg": "HS512"}, claims(), SECRET, "sha512"),
        "another key": lambda: sealed(HS256, claims(), OTHER_SECRET),
        "an RSA key": lambda: jwt.encode(claims(), rsa_key(), "RS256"),
        "RS256 by HMAC": lambda: sealed(rs256, claims()),
        "a key of its own": lambda: sealed(
            {**HS256, "jwk": {"kty": "oct", "k": segment(OTHER_SECRET.encode())}}, claims(), OTHER_SECRET
        ),
        "keys from elsewhere": lambda: sealed({**HS256, "jku": "http://127.0.0.1:9/"}, claims(), OTHER_SECRET),
        "critical": lambda: sealed({**HS256, "crit": ["x"], "x": 1}, claims()),
        "without signature": lambda: f"{header}.{payload}.",
        "without its dot": lambda: f"{header}.{payload}",
        "half a signature": lambda: good[:-20],
        "another payload": lambda: f"{header}.{segment(claims(sub='root'))}.{signature}",
        "empty": lambda: "",
        "a word": lambda: "null",
        "two": lambda: f"{good}, Bearer {good}",
        "two words": lambda: f"{good} {good}",
        "quoted": lambda: f'"{good}"',
        "no ascii": lambda: f"{good[:-1]}\xe9",
        "deep": lambda: unsealed(b"[" * 5000, claims()),
        "deep claims": lambda: sealed(
            HS256, b'{"sub":"a","exp":9999999999,"user_id":' + b"[" * 400 + b"]" * 400 + b"}"
        ),
        "too long": lambda: signed(padding="x" * 8192),
    }


@pytest.mark.parametrize("name", hostile_tokens())
def test_a_hostile_token_never_reaches_a_service(
    gateway: GatewayProcess, upstream: ScriptedUpstream, name: str
) -> None:
    token = hostile_tokens()[name]()
    reply = gateway.get("/api/devices", authorization(token))
    assert is_invalid_token(reply)
    assert upstream.requests == []
    for part in token.split("."):
        assert len(part) < 12 or part.encode("latin-1") not in reply.body


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=200))
def test_any_text_as_token_gets_401(gateway: GatewayProcess, upstream: ScriptedUpstream, text: str) -> None:
    assert is_invalid_token(gateway.get("/api/devices", authorization(text)))
    assert upstream.requests == []


def test_the_401_names_the_reason_without_details(gateway: GatewayProcess) -> None:
    assert gateway.get("/api/devices", authorization(expired())).json()["detail"] == "the token has expired"
    forged = gateway.get("/api/devices", authorization(sealed(HS256, claims(exp=0), OTHER_SECRET)))
    assert forged.json()["detail"] == "the token's signature does not match"


def token_of(length: int) -> str:
    for padding in range(length):
        token = signed(padding="x" * (length * 3 // 4 - 200 + padding))
        if len(token) == length:
            return token
    raise AssertionError(length)


def test_tokens_of_up_to_8_kib_are_verified(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    assert gateway.get("/api/devices", authorization(token_of(8192))).status == 200
    assert is_invalid_token(gateway.get("/api/devices", authorization(token_of(8193))))
    assert len(upstream.requests) == 1


def test_a_megabyte_of_token_is_refused_and_nothing_else_suffers(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    with Connection(gateway.port) as connection:
        try:
            connection.send(request_bytes("GET", "/api/devices", [authorization("A" * 2**20)]))
            assert connection.reply().status in (400, 401, 413, 431)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert upstream.requests == []
    assert gateway.get("/api/devices", bearer()).status == 200


@pytest.mark.parametrize("second", ["good", "expired", "basic", "same"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/devices"), ("POST", "/api/auth/login")])
def test_two_authorization_fields_are_refused(
    gateway: GatewayProcess, upstream: ScriptedUpstream, method: str, path: str, second: str
) -> None:
    good = bearer()
    others = {"good": bearer("bob"), "expired": authorization(expired()), "basic": ("Authorization", "Basic x")}
    other = others.get(second, good)
    for fields in ([good, other], [other, good], [good, ("authorization", other[1])], [good, ("Accept", "*/*"), other]):
        assert is_refused(gateway.request(method, path, fields), 400, "bad_request")
    assert upstream.requests == []


# --- valid tokens


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "bEaReR   "])
def test_the_scheme_bearer_is_case_insensitive(
    gateway: GatewayProcess, upstream: ScriptedUpstream, name: str, scheme: str
) -> None:
    token = signed()
    assert gateway.get("/api/devices", (name, scheme + token)).status == 200
    assert upstream.only.values("Authorization") == [scheme + token]
    assert upstream.only.values("X-User-Subject") == ["ada@example.com"]


def test_each_mapped_claim_becomes_one_header(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    assert gateway.get("/api/devices", bearer("ada@example.com", user_id=7, email="x@example.com")).status == 200
    assert upstream.only.values("X-User-Subject") == ["ada@example.com"]
    assert upstream.only.values("X-User-Id") == ["7"]
    assert b"x@example.com" not in upstream.only.head


def test_a_missing_claim_adds_no_header(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    assert gateway.get("/api/devices", bearer(user_id=None), ("X-User-Id", "1")).status == 200
    assert upstream.only.values("X-User-Id") == []


def test_claims_cannot_inject_headers(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    token = signed("ada\r\nX-User-Id: 1\r\n\r\nGET /api/admin HTTP/1.1", user_id="\n 1\u560d\u560a\0\x7f é")
    assert gateway.get("/api/devices", authorization(token)).status == 200
    assert upstream.only.values("X-User-Subject") == ["ada%0D%0AX-User-Id: 1%0D%0A%0D%0AGET /api/admin HTTP/1.1"]
    assert upstream.only.values("X-User-Id") == ["%0A 1%E5%98%8D%E5%98%8A%00%7F %C3%A9"]
    assert upstream.only.head.count(b"\r\n\r\n") == 1


def test_identity_headers_do_not_stay_on_the_connection(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    with Connection(gateway.port) as connection:

        def status(method: str, path: str, *fields: tuple[str, str]) -> int:
            connection.send(request_bytes(method, path, fields, b"" if method == "POST" else None))
            return connection.reply(method).status

        assert status("GET", "/api/devices", bearer("ada")) == 200
        assert status("GET", "/api/devices") == 401
        assert status("POST", "/api/auth/login") == 200
        assert status("GET", "/api/devices", bearer("bob")) == 200
        assert status("GET", "/api/devices", authorization(expired())) == 401
    assert [one.values("X-User-Subject") for one in upstream.requests] == [["ada"], [], ["bob"]]


# --- identity headers that a client sends


def spellings(name: str) -> set[str]:
    """Spellings of a header name: with both separators, in several cases, and with characters that some servers read as
    a separator."""
    first, second, third = name.split("-")
    separated = [f"{first}{one}{second}{other}{third}" for one in "-_" for other in "-_"]
    odd = {f"{first}{one}{second}{one}{third}" for one in ".!#$%&'*+^`|~"}
    return odd | {spelled for text in separated for spelled in (text, text.lower(), text.upper(), text.swapcase())}


SPELLINGS = sorted(spellings("X-User-Id") | spellings("X-User-Subject"))
EVIL = [(name, "evil") for name in SPELLINGS]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_an_identity_header_is_forwarded(
    gateway: GatewayProcess, upstream: ScriptedUpstream, spelling: str
) -> None:
    field = (spelling, "evil")
    assert gateway.get("/api/devices", field, bearer(), field).status == 200
    assert gateway.request("POST", "/api/auth/login", [field, field], b"{}").status == 200
    protected, public = upstream.requests
    assert (protected.values("X-User-Id"), protected.values("X-User-Subject")) == (["42"], ["ada@example.com"])
    assert (public.values("X-User-Id"), public.values("X-User-Subject")) == ([], [])
    assert b"evil" not in protected.head + public.head


def test_all_spellings_of_an_identity_header_together_are_dropped(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    assert gateway.get("/api/devices", *EVIL, bearer(), *EVIL).status == 200
    assert gateway.request("POST", "/api/auth/login", [*EVIL, bearer(), *EVIL], b"{}").status == 200
    assert gateway.request("POST", "/api/auth/login", [*EVIL, authorization(expired())], b"{}").status == 200
    for received, ids in zip(upstream.requests, (["42"], ["42"], []), strict=True):
        assert received.values("X-User-Id") == ids
        assert b"evil" not in received.head


@pytest.mark.parametrize(
    "line",
    [
        "X-User-Id : evil", " X-User-Id: evil", "\tX-User-Id: evil", "X-User-Id\t: evil", "X-User\x00-Id: evil",
        "X-User-Id\x00: evil", "X-User Id: evil", "X-User-Id\xa0: evil", "X\xadUser-Id: evil", ":X-User-Id: evil",
        "X-Tag: 1\n X-User-Id: evil", "X-Tag: 1\rX-User-Id: evil", "X-Tag: 1\nX-User-Id: evil",
        "X-Tag: 1\r\n X-User-Id: evil", "X-Tag: 1\x0bX-User-Id: evil\x00",
    ],
)  # fmt: skip
def test_a_malformed_header_line_smuggles_no_identity(
    gateway: GatewayProcess, upstream: ScriptedUpstream, line: str
) -> None:
    head = f"POST /api/auth/login HTTP/1.1\r\nHost: gateway.test\r\n{line}\r\nContent-Length: 0\r\n\r\n"
    assert exchange(gateway.port, head.encode("latin-1")).status == 400
    assert upstream.requests == []


def test_trailers_add_no_identity(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    head = request_bytes("POST", "/api/auth/login", [("Transfer-Encoding", "chunked"), ("Trailer", "X-User-Id")])
    assert exchange(gateway.port, head + b"2\r\n{}\r\n0\r\nX-User-Id: evil\r\nX_User_Id: evil\r\n\r\n").status == 200
    assert (upstream.only.body, upstream.only.is_whole) == (b"{}", True)
    assert b"evil" not in upstream.only.head


@pytest.mark.parametrize(
    "options",
    ["X-User-Id", "x-user-id, x-user-subject", "close, X-User-Id,X-User-Subject", "X_User_Id", "keep-alive, X-USER-ID"],
)
def test_naming_an_identity_header_in_connection_does_not_remove_it(
    gateway: GatewayProcess, upstream: ScriptedUpstream, options: str
) -> None:
    assert gateway.get("/api/devices", bearer(), ("Connection", options), ("X-User-Id", "evil")).status == 200
    assert upstream.only.values("X-User-Id") == ["42"]
    assert upstream.only.values("X-User-Subject") == ["ada@example.com"]
    assert upstream.only.values("Connection") == []


# --- public routes


@pytest.mark.parametrize("path", PUBLIC_ROUTES)
@pytest.mark.parametrize(
    "make",
    [
        None,
        expired,
        lambda: "garbage",
        lambda: unsealed({"alg": "none"}, claims()),
        lambda: sealed(HS256, claims(), OTHER_SECRET),
    ],
    ids=["no token", "expired", "garbage", "unsigned", "another key"],
)
def test_a_public_route_ignores_an_invalid_token(
    gateway: GatewayProcess, upstream: ScriptedUpstream, path: str, make: Callable[[], str] | None
) -> None:
    fields = [authorization(make())] if make else []
    reply = gateway.request("POST", path, [*fields, ("X-User-Id", "1")], b'{"email": "ada@example.com"}')
    assert (reply.status, reply.value("WWW-Authenticate")) == (200, None)
    assert upstream.only.body == b'{"email": "ada@example.com"}'
    assert (upstream.only.values("X-User-Id"), upstream.only.values("X-User-Subject")) == ([], [])


def test_a_public_route_gets_the_identity_of_a_valid_token(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    assert gateway.request("POST", "/api/auth/refresh", [bearer(), ("X-User-Id", "1")], b"").status == 200
    assert upstream.only.values("X-User-Id") == ["42"]


@pytest.mark.parametrize("path", PUBLIC_ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "POSTS", "PROPFIND"])
def test_only_post_is_public(gateway: GatewayProcess, upstream: ScriptedUpstream, method: str, path: str) -> None:
    reply = gateway.request(method, path)
    assert (reply.status, reply.value("X-Gateway-Error")) == (401, "missing_token")
    assert gateway.request(method, path, [("X-HTTP-Method-Override", "POST")]).status == 401
    assert gateway.request(method, f"{path}?_method=POST").status == 401
    assert gateway.request(method, f"{path}/").status == 401
    assert upstream.requests == []


AROUND_PUBLIC = [
    "/api/auth//login", "/api/auth///login", "//api/auth/login", "/api//auth/login", "/api/auth/login//",
    "/api/auth/login/x", "/api/auth/login/../users", "/api/auth/login/%2e%2e/users", "/api/auth/login/..%2fusers",
    "/api/auth/login%2f..%2fusers", "/api/auth/login/..;/users", "/api/auth/login/.%2e/users",
    "/api/auth/login/..\\users", "/api/auth/login%5c..%5cusers", "/api/auth/login/%252e%252e/users",
    "/api/auth/./login", "/api/auth/login/.", "/api/auth/x/../login", "/api/auth/login;x=1", "/api/auth/login%3bx",
    "/api/auth/login%00", "/api/auth/login%20", "/api/auth/login%0a", "/api/auth/login.json", "/api/auth/LOGIN",
    "/api/auth/Login", "/API/auth/login", "/api/auth/logi%6E%2F", "/api/auth/login%2F", "/api/auth/login%23",
    "/api/auth/login%3F", "/api/auth/%6Cogin%00", "/api/auth/login/login", "/api/auth/users?/api/auth/login",
    "/api/auth/login%c0%af", "/api/auth/loginx", "/api/auth/%25%36%63ogin", "/api/auth/%256cogin",
    "/api/auth/login%E2%80%8B", "/api/auth/log\x00in", "/api/auth/login#/users", "http://evil.test/api/auth/users",
    "/api/devices/../auth/login", "/api/devices/..%2fauth/login",
]  # fmt: skip


@pytest.mark.parametrize("path", AROUND_PUBLIC)
def test_no_spelling_makes_another_path_public(gateway: GatewayProcess, upstream: ScriptedUpstream, path: str) -> None:
    assert gateway.request("POST", path, [("Content-Type", "text/plain")], b"{}").status in (400, 401, 404)
    assert upstream.requests == []


@pytest.mark.parametrize(
    "path", ["/api/auth/login", "/api/auth/%6Cogin", "/api/auth/login?next=/api/devices", "/api/auth/login/"]
)
def test_the_public_path_is_forwarded_as_it_was_sent(
    gateway: GatewayProcess, upstream: ScriptedUpstream, path: str
) -> None:
    assert gateway.request("POST", path, (), b"{}").status == 200
    assert upstream.only.target == path


# --- public keys, issuer, audience, scopes


@pytest.fixture(scope="module")
def strict_gateway(
    start_gateway: Callable[..., GatewayProcess],
    module_upstream: ScriptedUpstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> GatewayProcess:
    """A gateway that verifies RS256 with a public key, an issuer and an audience. The service `devices` requires
    scopes, `livestreams` is public."""
    file = tmp_path_factory.mktemp("keys") / "issuer.pem"
    file.write_bytes(public_pem(rsa_key()))
    configuration = four_services(module_upstream.url)
    configuration["jwt"] = {"public_key_file": str(file), "issuer": ISSUER, "audience": [AUDIENCE, "other"]}
    names = {"sub": "X-Caller", "roles": "X-Roles", "https://id/name": "X-Name"}
    configuration["jwt"]["claims_to_headers"] = json.dumps(names)
    configuration["services"]["livestreams"]["auth"] = "none"
    configuration["services"]["devices"] |= {
        "scopes": ["devices:read"],
        "routes": [
            {"path": "/api/devices/admin/**", "scopes": ["devices:admin", "devices:write"]},
            {"path": "/api/devices/{id}/reset", "methods": ["POST"], "scopes": ["devices:reset"]},
            {"path": "/api/devices/open", "scopes": []},
        ],
    }
    return start_gateway(configuration, workers=1, environ={"GATEWAY_JWT__SECRET": None})


def by_issuer(scope: object = None, *, key: object = None, algorithm: str = "RS256", **more: Any) -> tuple[str, str]:
    given: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "scope": scope, **more}
    return authorization(signed(key=key or rsa_key(), algorithm=algorithm, **given))


def test_a_token_signed_with_the_issuers_key_passes(strict_gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    field = by_issuer(roles=["admin", "a,b"], **{"https://id/name": "Zoë"})
    assert strict_gateway.get("/api/rules", field, ("X-Roles", "root"), ("X_Caller", "root")).status == 200
    assert upstream.only.values("X-Caller") == ["ada@example.com"]
    assert upstream.only.values("X-Roles") == ["admin,a%2Cb"]
    assert upstream.only.values("X-Name") == ["Zo%C3%AB"]
    assert b"root" not in upstream.only.head


def test_the_public_key_is_no_hmac_secret(strict_gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    good = claims(iss=ISSUER, aud=AUDIENCE)
    pem = public_pem(rsa_key())
    for secret in (pem, pem.strip(), pem.replace(b"\n", b"\r\n"), b"".join(pem.splitlines()[1:-1])):
        for alg in ("HS256", "HS384", "RS256", "none"):
            assert is_invalid_token(strict_gateway.get("/api/rules", authorization(sealed({"alg": alg}, good, secret))))
    assert is_invalid_token(strict_gateway.get("/api/rules", authorization(sealed(HS256, good))))
    assert is_invalid_token(strict_gateway.get("/api/rules", by_issuer(key=rsa_key(1))))
    assert is_invalid_token(strict_gateway.get("/api/rules", by_issuer(algorithm="PS256")))
    assert is_invalid_token(strict_gateway.get("/api/rules", by_issuer(algorithm="RS512")))
    assert upstream.requests == []


def test_issuer_and_audience_are_checked(strict_gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    for iss in (None, "https://evil.example", f"{ISSUER}/"):
        assert is_invalid_token(strict_gateway.get("/api/rules", by_issuer(iss=iss)))
    for aud in (None, "someone", ["a", "b"], []):
        assert is_invalid_token(strict_gateway.get("/api/rules", by_issuer(aud=aud)))
    assert upstream.requests == []
    assert strict_gateway.get("/api/rules", by_issuer(aud="other")).status == 200
    assert strict_gateway.get("/api/rules", by_issuer(aud=["someone", AUDIENCE])).status == 200


def missing_scopes(reply: Reply) -> list[str]:
    """The missing scopes of a 403. Its problem document, the detail and the challenge must name the same scopes."""
    assert is_refused(reply, 403, "insufficient_scope")
    missing: list[str] = reply.json()["missing_scopes"]
    assert reply.json()["detail"] == f"missing: {' '.join(missing)}"
    found = QUOTED.fullmatch(reply.value("WWW-Authenticate") or "")
    assert found is not None
    assert found.groups() == ("insufficient_scope", " ".join(missing))
    return missing


@pytest.mark.parametrize(
    ("method", "path", "scope", "missing"),
    [
        ("GET", "/api/devices", None, ["devices:read"]),
        ("GET", "/api/devices", "", ["devices:read"]),
        ("GET", "/api/devices/1", "devices", ["devices:read"]),
        ("GET", "/api/devices/1", "devices:read:own DEVICES:READ devices:*", ["devices:read"]),
        ("GET", "/api/devices/1", "devices:reset devices:admin", ["devices:read"]),
        ("GET", "/api/devices/1", "other devices:read", []),
        ("GET", "/api/devices/1", ["other", "devices:read"], []),
        ("GET", "/api/devices/1", ["devices:read other"], ["devices:read"]),
        ("GET", "/api/devices/admin", "devices:read", ["devices:admin", "devices:write"]),
        ("GET", "/api/devices/admin/", "devices:read", ["devices:admin", "devices:write"]),
        ("GET", "/api/devices/admin/x/y", "devices:write", ["devices:admin"]),
        ("GET", "/api/devices/admin/x", "devices:admin devices:write", []),
        ("POST", "/api/devices/7/reset", "devices:read", ["devices:reset"]),
        ("POST", "/api/devices/7/reset/", "devices:read", ["devices:reset"]),
        ("POST", "/api/devices/7/reset", "devices:reset", []),
        ("GET", "/api/devices/7/reset", "devices:reset", ["devices:read"]),
        ("GET", "/api/devices/open", None, []),
        ("GET", "/api/devices/open/x", None, ["devices:read"]),
        ("GET", "/api/rules", None, []),
    ],
)
def test_missing_scopes_are_refused_and_named(
    strict_gateway: GatewayProcess,
    upstream: ScriptedUpstream,
    method: str,
    path: str,
    scope: object,
    missing: list[str],
) -> None:
    reply = strict_gateway.request(method, path, [by_issuer(scope)])
    if missing:
        assert missing_scopes(reply) == missing
        assert upstream.requests == []
    else:
        assert reply.status == 200
        assert upstream.only.target == path


@pytest.mark.parametrize(
    "path",
    [
        "/api/devices//admin", "/api/devices//admin/x", "/api/devices/admin//x", "/api/devices/%61dmin/x",
        "/api/devices/admi%6E", "/api/devices/admin;v=1/x", "/api/devices/admin;/x", "/api/devices/x/../admin/x",
        "/api/devices/./admin", "/api/devices/x/..;/admin", "/api/devices/admin%2fx", "/api/devices/%2561dmin/x",
        "/api/devices/7//reset", "/api/devices//7/reset", "/api/devices/7/%72eset", "/api/devices/7/reset;x",
        "/api/devices/7/reset//", "/api/devices/7/reset%2f", "/api/devices;x/admin/x", "/api/devices/7;x/reset",
    ],
)  # fmt: skip
def test_no_spelling_of_the_path_bypasses_a_routes_scopes(
    strict_gateway: GatewayProcess, upstream: ScriptedUpstream, path: str
) -> None:
    reply = strict_gateway.request("POST", path, [by_issuer("devices:read")])
    refused = (reply.status, reply.value("X-Gateway-Error"))
    assert refused in ((400, "bad_path"), (403, "insufficient_scope"), (404, "no_route"))
    assert upstream.requests == []


def test_scopes_are_not_shown_without_a_valid_token(strict_gateway: GatewayProcess) -> None:
    assert is_missing_token(strict_gateway.get("/api/devices"))
    reply = strict_gateway.get("/api/devices", by_issuer("devices:read", key=rsa_key(1)))
    assert is_invalid_token(reply)
    assert b"devices:" not in reply.body


def test_a_public_service_gets_no_identity_headers_from_clients(
    strict_gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    evil = [("X-Caller", "evil"), ("X_Roles", "evil"), ("x-name", "evil")]
    for more in ([], [by_issuer(key=rsa_key(1))], [by_issuer()]):
        assert strict_gateway.get("/api/livestreams", *evil, *more).status == 200
    assert [one.values("X-Caller") for one in upstream.requests] == [[], [], ["ada@example.com"]]
    assert all(b"evil" not in one.head for one in upstream.requests)


def test_eddsa_from_end_to_end(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    file = tmp_path / "issuer.pem"
    file.write_bytes(public_pem(key))
    gateway = start_gateway(
        {**four_services(upstream.url), "jwt": {"public_key_file": str(file), "algorithms": ["EdDSA"]}},
        workers=1,
        environ={"GATEWAY_JWT__SECRET": None},
    )
    assert gateway.get("/api/devices", bearer(key=key, algorithm="EdDSA")).status == 200
    assert upstream.only.values("X-User-Subject") == ["ada@example.com"]
    for forged in (
        signed(key=Ed25519PrivateKey.generate(), algorithm="EdDSA"),
        signed(key=rsa_key(), algorithm="RS256"),
        sealed(HS256, claims(), public_pem(key)),
        sealed({"alg": "EdDSA"}, claims(), public_pem(key)),
        unsealed({"alg": "EdDSA"}, claims(), bytes(64)),
        unsealed({"alg": "none"}, claims()),
    ):
        assert is_invalid_token(gateway.get("/api/devices", authorization(forged)))
    assert len(upstream.requests) == 1


# --- what is logged


def logged_tokens() -> list[str]:
    """Tokens of all kinds. No other test sends them, so the log can be searched for them."""
    return [
        signed("log@example.com"),
        signed("log@example.com", exp=1),
        sealed(HS256, claims(sub="log"), OTHER_SECRET),
        signed("log@example.com", padding="x" * 8192),
        unsealed({"alg": "none"}, claims(sub="log"), b"log" * 10),
        sealed({**HS256, "crit": ["logged"]}, claims(sub="log")),
    ]


def output_after(gateway: GatewayProcess, request_id: str) -> str:
    """Waits until the gateway has logged all earlier requests. Returns its output."""
    gateway.get("/api/devices", ("X-Request-Id", request_id))
    gateway.wait_for_log(lambda line: line["request_id"] == request_id)
    return gateway.output()


def test_tokens_and_secrets_are_never_logged(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    tokens = logged_tokens()
    for token in tokens:
        gateway.get("/api/devices", authorization(token))
        gateway.get("/api/devices", authorization(token), authorization(token))
        gateway.get("/api/devices", ("Authorization", f"Basic {token}"), ("X-Token", token), ("Cookie", f"t={token}"))
        gateway.get(f"/api/devices?access_token={token}", bearer())
        gateway.request("POST", "/api/auth/login", [authorization(token)], token.encode())
        gateway.get("/nowhere", authorization(token), ("Connection", "close"))
        for line in ("Authorization : Bearer ", "Authorization: Bearer\r\n ", "Authorization: Bearer \0"):
            exchange(gateway.port, f"GET /api/devices HTTP/1.1\r\nHost: a\r\n{line}{token}\r\n\r\n".encode("latin-1"))
    output = output_after(gateway, "after-tokens")
    for token in tokens:
        _, payload, signature = token.split(".")
        assert payload not in output
        assert signature not in output
    for secret in (SECRET, "Bearer"):
        assert secret not in output


def test_tokens_in_unparsable_lines_are_not_logged(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    token = signed("log@example.com")
    for head in (
        f"GET /api/devices HTTP/1.1\r\nHost: a\r\nAuthorization Bearer {token}\r\n\r\n",
        f"GET /api/devices HTTP/1.1\r\nHost: a\r\nAuthorization=Bearer {token}: x\r\n\r\n",
        f"GET {token} HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        assert exchange(gateway.port, head.encode()).status == 400
    assert token not in output_after(gateway, "after-lines")
