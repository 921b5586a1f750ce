"""`flask explain` agrees with what the gateway does: the same requests are explained and sent. It counts nothing and
sends nothing to services."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway import create_app
from gateway.explain.header_diff import redacted
from tests.support.client import Reply, exchange
from tests.support.commands import flask
from tests.support.configuration import loaded
from tests.support.gateway import ROOT, GatewayProcess, clean_environment, four_services, variables
from tests.support.issuer import Issuer
from tests.support.redis import RedisServer, calls_of, free_port, revoke_token
from tests.support.tokens import SECRET, bearer, signed
from tests.support.upstream import ScriptedUpstream, answering

CLASS_NAME = re.compile(r"[A-Za-z](Error|Exception|Timeout|Refused)\b|gaierror")
Pair = tuple[str, str]
HOST = "gateway.test"
DOCUMENT = {"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": {"/known": {"get": {}}}}


def settings_for(url: str) -> dict[str, Any]:
    """Settings with everything that can decide what happens to a request."""
    tree = four_services(url)
    services = tree["services"]
    services["devices"] |= {
        "max_body_bytes": 100_000,
        "routes": [
            {"path": "/api/devices/admin/**", "methods": ["DELETE", "GET"], "scopes": ["devices:admin", "x"]},
            {"path": "/api/devices/{id}/secret", "auth": "none"},
            {"path": "/api/devices/few", "limits": ["1/hour", "5/day burst 7"]},
            {"path": "/api/devices/tried", "limits": ["1/hour"], "limits_mode": "observe"},
            {"path": "/api/devices/free", "cost": 0},
            {"path": "/api/devices/dear", "cost": 3, "limits": ["4/hour fixed"]},
        ],
    }
    services["rules"] |= {"strip_prefix": True, "preserve_host": True, "encoded_slashes": "forward"}
    services["livestreams"] |= {"targets": [url + "/base"]}
    services["open"] = {"prefix": "/open", "targets": [url], "auth": "none", "host": "open.example.com:81"}
    only = {"prefix": "/only", "targets": [url], "auth": "none", "undocumented": "refuse", "strip_prefix": True}
    services["only"] = only
    return tree | {
        "jwt": {"secret": SECRET, "cookie": "session", "claims_to_headers": {"sub": "X-User-Subject", "n.m": "X-N"}},
        "cors": {"origins": ["https://app.example.com", "http://localhost:*"], "methods": ["GET", "PUT"]},
        "ratelimit": {"exempt_principals": ["root"], "default": "1000/hour", "anonymous": "1000/hour"},
        "proxy": {"trusted_hops": 1},
        "admin": {"allow": ["127.0.0.1"]},
        "docs": {"auth": "required"},
        # The timeout is long, so that no request is counted without Redis on a busy machine.
        "redis_timeout_seconds": 5,
    }


@pytest.fixture(scope="module")
def settings(module_upstream: ScriptedUpstream) -> dict[str, Any]:
    return settings_for(module_upstream.url)


@pytest.fixture(scope="module")
def gateway(
    start_gateway: Callable[..., GatewayProcess], settings: dict[str, Any], server: RedisServer
) -> GatewayProcess:
    return start_gateway(settings, workers=1, environ={"REDIS_URL": server.url, **LIMITS})


# The default limits of the gateway. The gateways that tests start have others.
LIMITS = {"GATEWAY_RATELIMIT__DEFAULT": "1000/hour", "GATEWAY_RATELIMIT__ANONYMOUS": "1000/hour"}


class Explainer:
    """Runs `flask explain` in this process."""

    def __init__(self, settings: dict[str, Any], redis_url: str | None = None) -> None:
        tree = {"jwt": {"secret": SECRET}, **settings}
        more = {} if redis_url is None else {"REDIS_URL": redis_url}
        self._runner = create_app(loaded(tree, **more)).test_cli_runner()

    def text(self, *words: str, code: int | None = None, given: str | None = None) -> str:
        result = self._runner.invoke(args=["explain", *words], input=given)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert code is None or result.exit_code == code, result.output
        self.code = result.exit_code
        return result.output

    def document(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text("--json", *words))
        return found


@pytest.fixture(scope="module")
def explainer(settings: dict[str, Any], server: RedisServer) -> Explainer:
    return Explainer(settings, server.url)


def stages(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {stage["stage"]: (stage["verdict"], stage["reason"]) for stage in found["stages"]}


def facts(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [stage["facts"] for stage in found["stages"] if stage["stage"] == name]
    found_facts: dict[str, Any] = one
    return found_facts


def words_for(method: str, target: str, fields: list[Pair], body: bytes | None) -> list[str]:
    given = [word for name, value in [("Host", HOST), *fields] for word in ("-H", f"{name}: {value}")]
    return [*given, *(["--body-bytes", str(len(body))] if body is not None else []), "--", method, target]


CHUNKED = ("Transfer-Encoding", "chunked")
PAGE = ("Origin", "https://app.example.com")
EXPIRED = ("Authorization", f"Bearer {signed(exp=int(time.time()) - 100)}")
FORGED = ("Authorization", f"Bearer {signed(key='x' * 40)}")

CASES: list[tuple[str, str, list[Pair], bytes | None]] = [
    ("GET", "/api/devices", [bearer()], None),
    ("GET", "/api/devices?a=%2e&b=/../", [bearer("zoë", n={"m": "é\n%"})], None),
    ("PROPFIND", "/api/devices/%41;x//y", [bearer()], None),
    ("get", "/api/devices/", [bearer()], None),
    ("POST", "/api/devices", [bearer(), ("Content-Type", "a/b")], b"0" * 99_999),
    ("POST", "/api/devices", [bearer()], b"0" * 100_001),
    ("GET", "/api/devices", [], None),
    ("GET", "/api/devices", [EXPIRED, PAGE], None),
    ("GET", "/api/devices", [FORGED, ("Origin", "https://evil.example")], None),
    ("GET", "/api/devices", [("Authorization", "Bearer ")], None),
    ("GET", "/api/devices", [("Authorization", "Basic eDp5")], None),
    ("GET", "/api/devices", [("Authorization", "Bearer " + "a" * 9000)], None),
    ("GET", "/api/devices", [("Authorization", "Bearer " + "a" * 20000)], None),
    ("GET", "/api/devices", [bearer(), bearer("eve")], None),
    ("GET", "/api/devices", [("Cookie", f"a=b; session={signed('by-cookie')}")], None),
    ("GET", "/api/devices", [("Cookie", "session=x; session=y")], None),
    ("DELETE", "/api/devices/admin/1", [bearer(scope="devices:admin")], None),
    ("DELETE", "/api/devices/admin/1", [bearer(scope="x devices:admin y")], None),
    ("PUT", "/api/devices/admin/1", [bearer()], None),
    ("GET", "/api/devices/7/secret", [], None),
    ("GET", "/api/devices/7/secret", [EXPIRED], None),
    ("GET", "/api/devices/7/secret", [bearer()], None),
    ("GET", "/api/devices/few", [bearer("few")], None),
    ("GET", "/api/devices/few", [bearer("few")], None),
    ("GET", "/api/devices/tried", [bearer("few")], None),
    ("GET", "/api/devices/tried", [bearer("few")], None),
    ("GET", "/api/devices/free", [bearer()], None),
    ("GET", "/api/devices/dear", [bearer("dear")], None),
    ("GET", "/api/devices/dear", [bearer("dear")], None),
    ("GET", "/api/devices", [bearer("root")], None),
    ("GET", "/api/devices/../rules", [bearer()], None),
    ("GET", "/api/devices/%2e%2e/rules", [bearer()], None),
    ("GET", "/api/devices/a%2Fb", [bearer()], None),
    ("GET", "/api/devices/a%00", [bearer()], None),
    ("GET", "/api/devices/%ff", [bearer()], None),
    ("GET", "/api/devices/é", [bearer()], None),
    ("GET", "/api/devices/a b", [bearer()], None),
    ("GET", "/api/devices/\x01", [bearer()], None),
    ("GET", "//api/devices", [bearer()], None),
    ("GET", "/api/devices;x/admin/1", [bearer()], None),
    ("GET", "/api/devices/%2561dmin/1", [bearer()], None),
    ("GET", "api/devices", [bearer()], None),
    ("OPTIONS", "*", [bearer()], None),
    ("CONNECT", "gateway.test:443", [bearer()], None),
    ("TRACE", "/api/devices", [bearer()], None),
    ("GE:T", "/api/devices", [bearer()], None),
    ("GET", "/" + "a" * 9000, [bearer()], None),
    ("GET", "/nowhere", [bearer()], None),
    ("GET", "/", [], None),
    ("GET", "/api/rules", [bearer(), ("X-Forwarded-For", "6.6.6.6, 10.0.0.1")], None),
    ("GET", "/%61pi/rules/a%2Fb?x", [bearer(), ("Accept", "*/*"), ("Accept", "a/b")], None),
    ("GET", "/api/livestreams/1?", [bearer()], None),
    ("GET", "/open/x", [("X-Request-Id", "mine-1"), ("X-User-Subject", "eve"), ("X_User_Subject", "eve")], None),
    ("GET", "/open/x", [("X-Request-Id", "mine 1"), ("X-N", "1"), ("X-Gateway-Identity", "x"), ("Te", "a")], None),
    ("GET", "/open/x", [("Connection", "X-Private, close"), ("X-Private", "1"), ("Keep-Alive", "1")], None),
    ("GET", "/open/x", [("X-Empty", ""), ("X-Utf", "zoë"), ("Proxy-Authorization", "Basic x")], None),
    ("GET", "/open/x", [("Bad name", "1")], None),
    ("GET", "/open/x", [("X-A", "a\x1b[31m")], None),
    ("GET", "/open/x", [("Expect", "200-maybe")], None),
    ("GET", "/open/x", [("Host", "other")], None),
    ("GET", "/open/x", [("Upgrade", "websocket"), ("Connection", "Upgrade")], None),
    ("POST", "/open/x", [CHUNKED, ("Content-Length", "3")], b"abc"),
    ("POST", "/open/x", [CHUNKED], b"abc"),
    ("POST", "/open/x", [("Transfer-Encoding", "gzip")], None),
    ("GET", "/open/x", [(f"X-{number}", "1") for number in range(120)], None),
    ("OPTIONS", "/api/devices", [PAGE, ("Access-Control-Request-Method", "PUT")], None),
    ("OPTIONS", "/api/devices", [("Origin", "https://evil"), ("Access-Control-Request-Method", "PUT")], None),
    ("OPTIONS", "/api/devices", [bearer(), PAGE], None),
    ("GET", "/only/known", [], None),
    ("GET", "/only/unknown", [], None),
    ("GET", "/healthz", [PAGE], None),
    ("GET", "/readyz", [], None),
    ("POST", "/healthz", [], b"x"),
    ("GET", "/metrics", [], None),
    ("GET", "/metrics", [("Host", "evil.test")], None),
    ("GET", "/status", [("Host", "localhost")], None),
    ("GET", "/api/devices", [("Host", "a b")], None),
    ("GET", "/api/devices", [("Host", "")], None),
    ("POST", "/api/devices", [("Transfer-Encoding", "gzip, chunked")], b"x"),
    ("GET", "/metrics", [("X-Forwarded-For", "10.0.0.1")], None),
    ("GET", "/docs", [], None),
    ("GET", "/docs/", [], None),
    ("GET", "/docs/none.js", [], None),
    ("GET", "/openapi/only.json", [], None),
    ("GET", "/openapi/only.json", [bearer()], None),
    ("GET", "/.well-known/jwks.json", [], None),
]
# Header fields that differ between two responses, or that belong to the connection.
VARYING = {
    "x-request-id",
    "date",
    "connection",
    "transfer-encoding",
    "x-ratelimit-reset",
    "ratelimit",
    "retry-after",
    "content-length",
}


def comparable(fields: list[Any], varying: set[str]) -> list[Pair]:
    return [(name, value) for name, value in fields if name.lower() not in varying]


def raw_request(method: str, target: str, fields: list[Pair], body: bytes | None) -> bytes:
    """The request that `words_for` describes, as bytes."""
    own = [] if any(name == "Host" for name, _ in fields) else [("Host", HOST)]
    names = {name.lower() for name, _ in fields}
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        own.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in [*own, *fields])]
    content = body or b""
    if body is not None and "transfer-encoding" in names:
        content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return "\r\n".join([*lines, "", ""]).encode() + content


def has_document(gateway: GatewayProcess) -> bool:
    return gateway.get("/only/unknown").status == 404


def test_explanation_agrees_with_the_gateway(
    gateway: GatewayProcess, upstream: ScriptedUpstream, explainer: Explainer
) -> None:
    document = json.dumps(DOCUMENT).encode()
    upstream.at["/openapi.json"] = answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(document) + document
    )
    gateway.wait_until(lambda: has_document(gateway), "have the document")
    gateway.get("/openapi.json", bearer())
    wrong = []
    for number, case in enumerate(CASES):
        upstream.requests.clear()
        words = words_for(*case)
        if any(name == "Host" for name, _ in case[2]):
            words = words[2:]
        found = explainer.document(*words)
        reply = exchange(gateway.port, raw_request(*case), case[0])
        arrived = [one for one in upstream.requests if one.target != "/openapi.json"]
        try:
            agree(found, reply, arrived, explainer.code)
        except AssertionError as error:
            wrong.append(f"{number} {str(case)[:150]}: {error}")
    assert wrong == [], "\n".join(wrong)


def agree(found: dict[str, Any], reply: Reply, arrived: list[Any], code: int) -> None:
    if found["status"] is None:
        (one,) = arrived
        (target,) = found["targets"]
        assert reply.value("X-Gateway-Error") is None
        assert code == 0
        assert f"{one.method} {one.target} HTTP/1.1" == target["request_line"]
        given = {"x-request-id", "traceparent"} - (
            {"x-request-id"} if ("X-Request-Id", "mine-1") in one.fields else set()
        )
        assert [(name, redacted(name, value)) for name, value in comparable(one.fields, given)] == [
            tuple(pair) for pair in comparable(target["headers"], given)
        ]
    else:
        assert not arrived
        assert (reply.status, reply.value("X-Gateway-Error")) == (found["status"], found["code"])
        assert code == (1 if reply.status >= 400 else 0)
        if found["code"] is not None and reply.body and found["response_headers"]:
            assert reply.json()["detail"] == found["detail"]
    if found["response_headers"]:
        own = {"content-type", "etag", "content-encoding"} if found["status"] is None else set()
        mine = sorted(tuple(pair) for pair in comparable(found["response_headers"], VARYING | own))
        assert mine == sorted(comparable(reply.fields, VARYING | own))


# --- dry run


def kept_in(server: RedisServer) -> dict[bytes, Any]:
    with server.client() as client:
        return {key: client.get(key) for key in client.scan_iter() if not key.startswith(b"gateway:status")}


def test_explain_counts_nothing_and_sends_nothing() -> None:
    # No other gateway uses this upstream, so all of its requests are known.
    with RedisServer() as server, closing(ScriptedUpstream()) as upstream:
        tree = settings_for(upstream.url)
        for service in ("livestreams", "open"):
            tree["services"][service]["health"] = {"path": "/health", "interval_seconds": 1}
        explainer = Explainer(tree, server.url)
        app = create_app(loaded(tree, REDIS_URL=server.url))
        name, value = bearer("dear")
        for path in ("/api/devices/dear", "/api/devices"):
            assert app.test_client().get(path, headers={name: value}).status_code == 200
        before = kept_in(server)
        assert len(before) == 2
        server.ask("CONFIG", "RESETSTAT")
        for method, target, fields, body in CASES[::2]:
            explainer.text(*words_for(method, target, fields, body))
        with server.client() as client:
            assert set(calls_of(client, ("set", "del", "expire")).values()) == {0}
        assert kept_in(server) == before
        assert (upstream.connections, len(upstream.requests)) == (1, 2)
        for _ in range(2):
            found = explainer.document("GET", "/api/devices/dear", "-H", f"{name}: {value}")
            assert stages(found)["rate limit"][0] == "refused"
            (limit,) = facts(found, "rate limit")["limits"]
            assert (limit["used"], limit["capacity"], limit["cost"], limit["passes"]) == (3, 4, 3, False)


def test_revoked_token_is_explained(server: RedisServer, explainer: Explainer, settings: dict[str, Any]) -> None:
    token = signed("gone", jti="j-1")
    words = ("GET", "/api/devices", "--token", token)
    assert stages(explainer.document(*words))["revocation"][0] == "ok"
    revoke_token(server, "j-1")
    before = kept_in(server)
    found = explainer.document(*words)
    assert (found["status"], found["code"], found["detail"]) == (401, "invalid_token", "the token has been revoked")
    assert stages(found)["revocation"][0] == "revoked"
    assert stages(found)["token"] == ("valid", "sub gone")
    assert {key for key in kept_in(server) if b"revoked" in key} == {key for key in before if b"revoked" in key}


def test_explanation_agrees_with_the_gateway_without_redis(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream
) -> None:
    services: dict[str, Any] = {
        way: {"prefix": f"/{way}", "targets": [upstream.url], "auth": "none", "on_redis_failure": way}
        for way in ("local", "open", "closed")
    }
    services["sure"] = {"prefix": "/sure", "targets": [upstream.url]}
    settings = {"services": services, "revocation": {"on_redis_failure": "closed"}}
    with RedisServer(started=False) as server:
        gateway = start_gateway(settings, workers=1, environ={"REDIS_URL": server.url})
        explainer = Explainer(settings, server.url)
        for path in ("/local", "/open", "/closed", "/sure"):
            found, reply = explainer.document("GET", path, "--token", signed()), gateway.get(path, bearer())
            assert (found["status"] or 200, found["code"]) == (reply.status, reply.value("X-Gateway-Error")), path
            assert any("Redis fails" in note for note in found["notes"])
            assert facts(found, "rate limit")["redis"] == "down"
        assert (found["status"], found["code"]) == (503, "keys_unavailable")
        assert stages(found)["revocation"][0] == "unknown"


def test_keys_of_an_issuer_are_fetched_and_named(upstream: ScriptedUpstream) -> None:
    issuer = Issuer()
    issuer.add_key("one", "RS256")
    try:
        settings = {"jwt": {"jwks_url": issuer.jwks_url, "secret": None, "issuer": issuer.url}}
        explainer = Explainer(without_secret(settings | four_services(upstream.url)))
        token = issuer.token("one")
        found = explainer.document("GET", "/api/devices", "--token", token)
        assert found["status"] is None
        token_facts = facts(found, "token")
        assert (token_facts["kid"], token_facts["alg"]) == ("one", "RS256")
        assert token_facts["verified with"] == f"a key of {issuer.jwks_url}, fetched for this command"
        assert explainer.document("GET", "/readyz")["status"] == 200
        issuer.status = 500
        found = explainer.document("GET", "/api/devices", "--token", token)
        assert (found["status"], found["code"]) == (503, "keys_unavailable")
        assert "could not be fetched" in facts(found, "token")["keys"]
        assert any(f"can't be refreshed: {issuer.jwks_url}: status 500" in note for note in found["notes"])
        assert upstream.requests == []
    finally:
        issuer.close()


def test_failure_to_fetch_keys_is_explained_without_secrets(
    upstream: ScriptedUpstream,
) -> None:
    token = signed(key=ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    url = f"http://127.0.0.1:{free_port()}/keys"
    settings = {"jwt": {"jwks_url": f"{url}?key=hunter2", "secret": None}}
    explainer = Explainer(without_secret(settings | four_services(upstream.url)))
    text = explainer.text("GET", "/api/devices", "--token", token, code=1)
    reason = f"{url}?**********: no connection to the service: Connection refused"
    assert f"the keys of jwt can't be refreshed: {reason}; the last known keys stay in use" in text
    assert "hunter2" not in text
    assert not CLASS_NAME.search(text), text


def test_findings_have_no_names_of_classes(explainer: Explainer) -> None:
    for bad in ("x", "a.b.c", signed()[:-4] + "AAAA", signed(exp=1), "é"):
        text = explainer.text("GET", "/api/devices", "--token", bad, code=1)
        assert not CLASS_NAME.search(text), text


def without_secret(settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, "jwt": {name: value for name, value in settings["jwt"].items() if value is not None}}


# --- findings


def test_all_targets_that_could_be_chosen_are_shown(upstream: ScriptedUpstream) -> None:
    targets = ["http://one:1", "http://two:2/base", "http://three:3"]
    service = {"prefix": "/s", "targets": targets, "auth": "none", "weights": [1, 1, 0]}
    found = Explainer({"services": {"s": service}}).document("GET", "/s")
    assert [one["request_line"] for one in found["targets"]] == ["GET /s HTTP/1.1", "GET /base/s HTTP/1.1"]
    assert found["outcome"] == "would be forwarded to http://one:1 or http://two:2/base"
    always = Explainer({"services": {"s": service | {"balancing": "principal"}}})
    urls = {one["url"] for _ in range(5) for one in always.document("GET", "/s")["targets"]}
    assert len(urls) == 1
    assert "breakers" in always.text("GET", "/s")


def test_client_address_and_other_reading_of_the_path_are_explained(explainer: Explainer) -> None:
    found = explainer.document("GET", "/open", "--address", "::1", "-H", "X-Forwarded-For: 10.1.1.1, 10.2.2.2:80")
    assert stages(found)["client"] == (
        "10.2.2.2",
        "from X-Forwarded-For, as proxy.trusted_hops = 1; the connection comes from ::1",
    )
    found = explainer.document("GET", "https://user@gw.test:1/api/devices;x/few?a#b")
    assert found["target"] == "/api/devices;x/few?a"
    assert facts(found, "path") == {"another reading": "/api/devices/few"}
    assert stages(found)["route"][0] == stages(found)["token"][0] == stages(found)["rate limit"][0] == "not reached"
    added = explainer.document("GET", "http://gw.test:1/open")["targets"][0]["header_diff"]["added"]
    assert ["X-Forwarded-Host", "gw.test:1"] in added


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["GET", "orders"], "invalid request line: the message is malformed or ambiguous"),
        (["GET", "/orders/a b"], "invalid HTTP version: the message is malformed or ambiguous"),
        (["GET", "/x", "-H", "A B: s3cr3t"], "invalid header name: the message is malformed or ambiguous"),
    ],
)
def test_a_message_that_the_parser_rejects_is_explained_in_words(
    explainer: Explainer, words: list[str], reason: str
) -> None:
    found = explainer.document(*words)
    assert (found["status"], found["code"]) == (400, "bad_request")
    assert stages(found) == {"message": ("refused", f"the server's parser rejects the request: {reason}")}


def test_host_that_is_not_served_is_explained(settings: dict[str, Any]) -> None:
    explainer = Explainer(settings | {"server": {"allowed_hosts": ["*.example.com"]}})
    found = explainer.document("GET", "http://evil.test/api/devices")
    assert (found["status"], found["code"], stages(found)["host"][0]) == (421, "misdirected", "refused")
    assert "server.allowed_hosts" in stages(found)["host"][1]
    assert "path" not in {stage for stage, (verdict, _) in stages(found).items() if verdict == "ok"}
    assert stages(explainer.document("GET", "http://api.example.com/healthz"))["host"] == ("ok", "api.example.com")


def test_preflights_are_evaluated_as_browsers_do(explainer: Explainer) -> None:
    words = ("OPTIONS", "/api/rules", "--origin", "http://localhost:3000", "-H")
    put = "Access-Control-Request-Method: PUT"
    assert stages(explainer.document(*words, put))["preflight"] == ("allowed", "http://localhost:3000")
    assert explainer.code == 0
    verdict, why = stages(explainer.document(*words, "Access-Control-Request-Method: PATCH"))["preflight"]
    assert (verdict, "PATCH is not in cors.methods" in why) == ("not allowed", True)
    assert stages(explainer.document("GET", "/open", "--origin", "https://evil"))["cors"][0] == "not allowed"
    network = (put, "-H", "Access-Control-Request-Private-Network: true")
    assert "cors.private_network" in stages(explainer.document(*words, *network))["preflight"][1]


def test_options_request_with_max_forwards(explainer: Explainer) -> None:
    found = explainer.document("OPTIONS", "/open", "-H", "Max-Forwards: 0")
    assert (found["status"], found["targets"]) == (204, [])
    words = ("OPTIONS", "/api/rules", "--token", signed(), "-H", "Max-Forwards: 3")
    fields = explainer.document(*words)["targets"][0]["headers"]
    assert ["Max-Forwards", "2"] in fields
    assert ["X-Forwarded-Prefix", "/api/rules"] in fields


def test_chunked_body_over_the_limit(explainer: Explainer) -> None:
    words = ("POST", "/api/devices", "--token", signed(), "-H", "Transfer-Encoding: chunked", "--body-bytes")
    assert explainer.document(*words, "100000")["status"] is None
    found = explainer.document(*words, "100001")
    assert (found["status"], found["code"]) == (413, "body_too_large")
    assert stages(found)["body"][0] == "refused"


def test_secrets_and_control_characters_are_not_printed(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    settings = {
        "jwt": {"cookie": "session", "secret": SECRET},
        "identity": {"sign": True, "private_key_file": str(tmp_path / "key.pem")},
    }
    explainer = Explainer(settings)
    hostile = "\x1b[31mred\u202e\x9b31m"
    token = signed(hostile, user_id=hostile, jti=hostile, scope=f"a {hostile}")
    for given in (
        ("--token", token),
        ("--token", token + "x"),
        ("-H", f"Cookie: session={token}; other=hidden-value"),
        ("-H", f"Authorization: {token} x"),
        ("-H", f"Authorization: Bearer\t{token}"),
        ("--token", token, "-H", f"Authorization: Bearer {token}"),
        ("--token", token, "-H", f"Proxy-Authorization: Basic {token}"),
    ):
        output = explainer.text("--json", *given, "-H", "X-A: zo\x9b31m\u202e", "--", "GET", "/api/devices?\u202e")
        for target in ("/api/devices/\x9b", "/api/devices"):
            output += explainer.text(*given, "-H", "X-A: \x9b31m\u202e", "--", "GET", target)
        assert all(one.isprintable() or one == "\n" for one in output), ascii(output)
        # Every token begins with this, also those that the gateway signs.
        assert "eyJ" not in output
        assert "hidden-value" not in output
    output = explainer.text("--token", token, "-H", "X-Request-Id: \x9b", "GET", "/api/devices", code=0)
    assert "X-Gateway-Identity: … (a token" in output
    assert "sub \\x1b[31mred\\u202e\\x9b31m\n" in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["GET"], "Missing argument 'URL'"),
        (["GET", "/x", "--address", "here"], "must be an IP address, got 'here'"),
        (["GET", "/x", "-H", "secret"], "must be NAME:VALUE"),
        (["GET", "/x", "-H", "A: secret\r\nB: c"], "must not have line breaks"),
        (["GET", "/x", "--token", "secret\nsecret"], "must not have line breaks"),
        (["GET", "/x HTTP/1.1\r\nX: secret"], "must not have line breaks"),
        (["GET", "/x", "--body-bytes", "-1"], "is not in the range"),
    ],
)
def test_invalid_arguments_of_explain_are_refused(explainer: Explainer, words: list[str], said: str) -> None:
    output = explainer.text(*words, code=2)
    assert said in output
    assert "secret" not in output


def test_explain_as_a_process(start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream) -> None:
    settings = four_services(upstream.url) | {"server": {"bind": f"127.0.0.1:{free_port()}"}}
    gateway = start_gateway(settings, workers=1)
    token = signed("ada")
    assert gateway.get("/api/devices", ("Authorization", f"Bearer {token}")).status == 200
    done = subprocess.run(
        [sys.executable, "-m", "flask", "explain", "GET", "/api/devices?x=1", "--token", "-", "-H", "X-User-Id: 1"],
        cwd=ROOT,
        env=clean_environment() | {"GATEWAY_JWT__SECRET": SECRET} | variables(settings),
        input=token + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == f"=> would be forwarded to {upstream.url}"
    assert "    ~ X-User-Id: 1 -> 42" in lines
    assert "    GET /api/devices?x=1 HTTP/1.1" in lines
    assert any("used 1 of 300" in line for line in lines)
    assert any("the private Redis of the gateway on this machine" in line for line in lines)
    assert token not in done.stdout
    # The other gateway of the module may fetch documents from this upstream in the meantime.
    paths = [received.head.split()[1] for received in upstream.requests]
    assert [path for path in paths if path != b"/openapi.json"] == [b"/api/devices"]
    # `explain` reports a broken configuration as other commands do.
    output = flask("explain", "GET", "/", settings={"proxy": {"trusted_hops": "x"}}, code=2)
    assert output == ""
