"""The API document and its page: content, caching by HTTP, and the settings of [docs]."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.commands import flask
from tests.support.documented import DOCUMENT, Documented, answer, document, settings_for, states
from tests.support.gateway import GatewayProcess
from tests.support.metrics import metric_value
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream, answering

ORIGIN = "https://app.test"
UNREACHABLE = "[unreachable_operation]"


@pytest.fixture
def service(upstream: ScriptedUpstream) -> Documented:
    return Documented(upstream)


@pytest.fixture(scope="module")
def lasting() -> Iterator[Documented]:
    """Documents on an upstream that all tests of the module share."""
    upstream = ScriptedUpstream()
    yield Documented(upstream)
    upstream.close()


@pytest.fixture(scope="module")
def plain(start_gateway: Callable[..., GatewayProcess], lasting: Documented) -> GatewayProcess:
    return start_gateway(settings_for(lasting, scopes=["devices:read"]), workers=1)


def paths_of(*paths: str) -> bytes:
    operations: dict[str, Any] = {path: {"get": {"responses": {}}} for path in paths}
    return json.dumps({"openapi": "3.1.0", "info": {"title": "d", "version": "1"}, "paths": operations}).encode()


NO_DOCUMENTS = {
    "no_json": answer(b"x" * 5000),
    "cut_json": answer(b'{"openapi": "3.1.0"'),
    "swagger": answer(b'{"swagger": "2.0"}'),
    "a_list": answer(b"[]"),
    "not_found": answer(b"", status="404 Not Found"),
    "a_redirect": answer(b"", "Location: /other", status="302 Found"),
    "cut_short": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
    "too_large": answer(json.dumps({"openapi": "3.1.0", "info": {}, "paths": {}, "x": [0] * 2000}).encode()),
    "no_http": b"nonsense\r\n\r\n",
}
# Services beside the built-in ones, each with its own settings.
SERVICES: dict[str, dict[str, Any]] = {
    "devices": {
        "undocumented": "refuse",
        "routes": [{"path": "/api/devices/socket/**", "undocumented": "allow"}],
    },
    "items": {"strip_prefix": True, "undocumented": "log"},
    "discreet": {"in_docs": False},
    "mute": {"undocumented": "refuse"},
    "undescribed": {"openapi_path": "", "health": {"path": "/undescribed/health"}},
    **{name: {} for name in NO_DOCUMENTS},
}


@pytest.fixture(scope="module")
def varied(start_gateway: Callable[..., GatewayProcess], lasting: Documented) -> GatewayProcess:
    """A gateway with protected documents, hidden paths and SERVICES."""
    answers = {
        "items": answer(paths_of("/items")),
        "discreet": answer(paths_of("/api/discreet")),
        "mute": b"",
        **NO_DOCUMENTS,
    }
    for name, data in answers.items():
        lasting.upstream.at[f"/{name}.json"] = answering(data, keep=False)
    settings = settings_for(lasting, {"auth": "required", "max_bytes": 4096, "hidden": ["/api/devices/internal/**"]})
    for name, own in SERVICES.items():
        base = {"prefix": f"/api/{name}", "targets": [lasting.upstream.url], "openapi_path": f"/{name}.json"}
        settings["services"][name] = base | {"breaker": {"failures": 0}} | own
    return start_gateway(settings | {"cors": {"origins": [ORIGIN]}}, workers=1)


def test_one_document_has_all_services_and_the_gateways_annotations(plain: GatewayProcess) -> None:
    found = document(plain)
    assert found["openapi"] == "3.1.0"
    # The URL is relative to the document, so it is also right behind a proxy that adds a path prefix.
    assert found["servers"] == [{"url": "."}]
    assert found["info"]["title"] == "Home"
    assert set(found["paths"]) == {"/api/devices", "/api/devices/{id}", "/api/devices/internal/state", "/api/rules"}
    operation = found["paths"]["/api/devices"]["get"]
    assert operation["operationId"] == "devices_list"
    assert operation["security"] == [{"gatewayBearer": ["devices:read"]}]
    assert set(operation["responses"]) >= {"200", "401", "403", "429", "502", "503", "504"}
    assert operation["x-ratelimit"]["limits"] == ["1000000/minute"]
    assert states(plain) == {
        "auth": "unavailable",
        "livestreams": "unavailable",
        "rules": "current",
        "devices": "current",
    }
    assert set(document(plain, "/openapi/devices.json")["paths"]) == {
        "/api/devices",
        "/api/devices/{id}",
        "/api/devices/internal/state",
    }
    assert [plain.get(f"/openapi/{name}.json").status for name in ("nobody", "..%2fx")] == [404, 400]
    unavailable = plain.get("/openapi/auth.json")
    assert (unavailable.status, unavailable.value("X-Gateway-Error")) == (503, "document_unavailable")
    # The gateway fetches the document again after `docs.refresh_seconds`, so Retry-After names that time.
    assert 1 <= int(unavailable.value("Retry-After") or "") <= 60


def test_entity_tags_and_compression(plain: GatewayProcess) -> None:
    unpacked = plain.get("/openapi.json")
    packed = plain.get("/openapi.json", ("Accept-Encoding", "br, gzip"))
    assert gzip.decompress(packed.body) == unpacked.body
    assert len(packed.body) < len(unpacked.body)
    assert (unpacked.value("Content-Encoding"), packed.value("Content-Encoding")) == (None, "gzip")
    assert unpacked.value("ETag") != packed.value("ETag")
    for reply, encoding in [(unpacked, "identity"), (packed, "gzip"), (unpacked, "gzip;q=0")]:
        fields = [("Accept-Encoding", encoding), ("If-None-Match", f'"x", W/{reply.value("ETag")}')]
        again = plain.get("/openapi.json", *fields)
        assert (again.status, again.body, again.value("ETag")) == (304, b"", reply.value("ETag"))
        assert again.value("Cache-Control") == "no-cache"
        assert again.value("Vary") == "Accept-Encoding"
    assert plain.get("/openapi.json", ("If-None-Match", '"other"')).status == 200
    head = plain.request("HEAD", "/openapi.json")
    assert (head.status, head.body, head.value("Content-Length")) == (200, b"", str(len(unpacked.body)))
    assert plain.request("POST", "/openapi.json").status == 405


@pytest.mark.parametrize("name", NO_DOCUMENTS)
def test_an_invalid_document_is_unavailable_and_does_not_affect_others(varied: GatewayProcess, name: str) -> None:
    found = states(varied)
    assert (found[name], found["rules"], found["devices"]) == ("unavailable", "current", "current")
    varied.wait_until(lambda: f"the document of {name} could not be fetched" in varied.output(), "tell it")
    assert "Traceback" not in varied.output()


def test_hidden_paths_and_services(varied: GatewayProcess) -> None:
    found = document(varied)
    assert set(found["paths"]) == {"/api/devices", "/api/devices/{id}", "/api/rules", "/api/items/items"}
    assert "discreet" not in found["info"]["x-gateway-services"]
    services = varied.get("/docs/services.json", bearer()).body.decode()
    assert ("items" in services, "discreet" in services) == (True, False)
    assert varied.get("/openapi/discreet.json", bearer()).status == 404


def test_a_service_that_has_no_document(varied: GatewayProcess, lasting: Documented) -> None:
    found = document(varied)["info"]["x-gateway-services"]["undescribed"]
    assert found == {"title": "undescribed", "prefix": "/api/undescribed", "state": "none"}
    reply = varied.get("/openapi/undescribed.json", bearer())
    assert (reply.status, reply.value("X-Gateway-Error")) == (404, "no_route")
    # The service got health checks, but no request for a document.
    assert lasting.upstream.wait_until(lambda: bool(lasting.fetches("/undescribed/health")))
    assert not [one for one in lasting.upstream.requests if one.target in ("", "/", "/undescribed.json")]
    varied.wait_until(lambda: metric_value(varied, "gateway_document_failing", service="no_json") == 1, "show it")
    assert 'gateway_document_failing{service="undescribed"}' not in varied.get("/metrics").body.decode()
    assert "document of undescribed" not in varied.output()
    described = varied.get("/status?format=json", ("Accept", "application/json")).json()["documents"]
    names = [one["service"] for one in described["services"]]
    assert ("no_json" in names, "undescribed" in names) == (True, False)


def test_paths_in_the_document_have_the_stripped_prefix_again(varied: GatewayProcess) -> None:
    assert set(document(varied, "/openapi/items.json")["paths"]) == {"/api/items/items"}


PATHS = (
    "/openapi.json",
    "/openapi/devices.json",
    "/docs",
    "/docs/services.json",
    "/docs/page.js",
    "/docs/swagger-ui.css",
)


def test_docs_can_be_disabled(start_gateway: Callable[..., GatewayProcess], service: Documented) -> None:
    gateway = start_gateway(settings_for(service, {"enabled": False}), workers=1)
    assert [gateway.get(path).status for path in PATHS] == [404] * len(PATHS)
    assert service.upstream.requests == []


def test_protected_documents_require_a_valid_token(varied: GatewayProcess) -> None:
    guarded, free = (PATHS[0], PATHS[1], PATHS[3]), (PATHS[2], PATHS[4], PATHS[5])
    for path in guarded:
        refused = varied.get(path)
        assert (refused.status, refused.value("X-Gateway-Error")) == (401, "missing_token")
        assert refused.value("WWW-Authenticate") == "Bearer"
        assert varied.get(path, bearer(exp=1)).value("X-Gateway-Error") == "invalid_token"
        assert varied.get(path, bearer()).status == 200
    # These paths need no token, as their responses contain only files of the package.
    assert [varied.get(path).status for path in free] == [200] * 3


def test_docs_token_validates_the_token(plain: GatewayProcess, varied: GatewayProcess) -> None:
    for gateway in (plain, varied):
        good = gateway.get("/docs/token", bearer())
        assert (good.status, good.body, good.value("Cache-Control")) == (204, b"", "no-store")
        bad = gateway.get("/docs/token", bearer(exp=1))
        assert (bad.status, bad.value("X-Gateway-Error")) == (401, "invalid_token")
        assert bad.json()["detail"] == "the token has expired"
        assert gateway.get("/docs/token").value("X-Gateway-Error") == "missing_token"


def test_the_page_may_load_nothing_from_other_origins(plain: GatewayProcess) -> None:
    reply = plain.get("/docs")
    assert reply.value("Content-Type") == "text/html; charset=utf-8"
    policy = reply.value("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy
    assert reply.value("X-Content-Type-Options") == "nosniff"
    assert b"<script>" not in reply.body
    assert b"//" not in reply.body.replace(b"<!doctype html>", b"")


def test_the_pages_link_to_each_other(plain: GatewayProcess) -> None:
    reply = plain.get("/")
    assert (reply.status, reply.value("X-Gateway-Error")) == (404, "no_route")
    assert (reply.value("Link") or "").startswith('<docs>; rel="service-doc"')
    assert plain.get("/nowhere").value("Link") is None
    link = b'<a href="status">Status</a>'
    assert link in plain.get("/docs").body
    # A client behind a proxy can't read /status, so its page has no link to it.
    forwarded = plain.get("/docs", ("X-Forwarded-For", "203.0.113.9"))
    assert (forwarded.status, link in forwarded.body) == (200, False)
    assert "/status and /metrics are a 404" not in plain.output()


def test_a_final_slash_redirects_to_the_page(plain: GatewayProcess) -> None:
    # The links of the page are relative, so that they work behind a path prefix. After a final slash they would be
    # wrong.
    reply = plain.get("/docs/")
    assert (reply.status, reply.value("Location"), reply.body) == (308, "../docs", b"")


def test_documents_follow_the_cors_settings(varied: GatewayProcess) -> None:
    for origin, allowed in [(ORIGIN, ORIGIN), ("https://evil.test", None)]:
        reply = varied.get("/openapi.json", bearer(), ("Origin", origin))
        assert (reply.status, reply.value("Access-Control-Allow-Origin")) == (200, allowed)


class TestUndocumented:
    REQUESTS = (
        ("GET", "/api/devices", 200),
        ("GET", "/api/devices/", 200),
        ("HEAD", "/api/devices", 200),
        ("DELETE", "/api/devices/7", 200),
        ("GET", "/api/devices/internal/state", 200),
        ("POST", "/api/devices", 404),
        ("PUT", "/api/devices/7", 404),
        ("GET", "/api/devices/7/more", 404),
        ("GET", "/api/devices/7%20x", 200),
    )

    def ask_all(self, gateway: GatewayProcess) -> list[tuple[str, str, int]]:
        return [(method, path, gateway.request(method, path, [bearer()]).status) for method, path, _ in self.REQUESTS]

    def test_refused(self, varied: GatewayProcess, lasting: Documented) -> None:
        # A hidden operation counts as documented, so requests for it pass.
        varied.wait_until(lambda: varied.request("POST", "/api/devices", [bearer()]).status == 404, "know the document")
        before = len(lasting.upstream.requests)
        assert self.ask_all(varied) == list(self.REQUESTS)
        reply = varied.request("POST", "/api/devices", [bearer()])
        assert (reply.value("X-Gateway-Error"), reply.json()["status"]) == ("undocumented", 404)
        arrived = Counter(one.method for one in lasting.upstream.requests[before:] if one.target.startswith("/api"))
        assert arrived == {"GET": 4, "HEAD": 1, "DELETE": 1}
        # Requests without a token get 401 on every path, so they don't show which paths exist.
        assert varied.request("POST", "/api/devices").status == 401

    def test_a_route_of_its_own_lets_all_pass(self, varied: GatewayProcess, lasting: Documented) -> None:
        varied.wait_until(lambda: varied.request("POST", "/api/devices", [bearer()]).status == 404, "know the document")
        asked = "/api/devices/socket/7?lasting"
        assert varied.request("GET", asked, [bearer()]).status == 200
        assert len(lasting.fetches(asked)) == 1

    def test_only_logged(self, varied: GatewayProcess) -> None:
        def is_logged() -> bool:
            reply = varied.request("POST", "/api/items/items", [bearer()])
            assert reply.status == 200
            found = varied.wait_for_log(lambda line: line["request_id"] == reply.value("X-Request-Id"))
            return bool(found["undocumented"])

        varied.wait_until(is_logged, "know the document")
        assert metric_value(varied, "gateway_undocumented_requests_total", service="items", mode="log") >= 1

    def test_where_there_is_no_document_everything_passes(self, varied: GatewayProcess, lasting: Documented) -> None:
        assert varied.request("POST", "/api/mute", [bearer()]).status == 200
        assert lasting.upstream.wait_until(lambda: bool(lasting.fetches("/mute.json")))
        for _ in range(3):
            assert varied.request("POST", "/api/mute", [bearer()]).status == 200


def drift_settings(service: Documented, **devices: Any) -> dict[str, Any]:
    own = {"prefix": "/api/devices", "targets": [service.upstream.url], "openapi_path": "/devices.json"}
    return {"default_services": False, "services": {"devices": own | devices}}


def test_exit_codes_of_drift(service: Documented) -> None:
    secured = DOCUMENT | {"security": [{"own": []}], "paths": {"/api/devices": DOCUMENT["paths"]["/api/devices"]}}
    service.serve(secured)
    settings = drift_settings(service)
    assert flask("drift", settings=settings) == "No drift in 1 document.\n"
    undescribed = {"prefix": "/api/x", "targets": [service.upstream.url], "openapi_path": ""}
    settings["services"]["undescribed"] = undescribed
    assert flask("drift", settings=settings) == "No drift in 1 document.\n"
    opened = flask("drift", settings=drift_settings(service, auth="none"), code=1)
    place = "devices: GET /api/devices (policy devices)"
    what = "the service requires credentials, but the gateway forwards requests without a token"
    assert opened == f"{place}: {what} [protected_but_open]\n"
    # The document of `lost` can't be fetched: exit code 2 says that the result covers only the other documents.
    settings = drift_settings(service, auth="none")
    settings["services"]["lost"] = undescribed | {"openapi_path": "/nowhere.json"}
    assert flask("drift", settings=settings, code=2) == opened


def test_ignored_drift_is_not_reported(service: Documented) -> None:
    printed = flask("drift", settings=drift_settings(service), code=1)
    assert [line.rpartition(" ")[2] for line in printed.splitlines()] == [*["[open_but_protected]"] * 4, UNREACHABLE]
    assert "devices: GET /elsewhere: the operation is in the service's document, but " in printed
    ignored = ["open_but_protected"]
    printed = flask("drift", settings=drift_settings(service, drift_ignore=ignored), code=1)
    assert [line.rpartition(" ")[2] for line in printed.splitlines()] == [UNREACHABLE]
    ignored.append("unreachable_operation /elsewhere")
    assert flask("drift", settings=drift_settings(service, drift_ignore=ignored)) == "No drift in 1 document.\n"


def test_drift_lines_name_the_operation(service: Documented) -> None:
    secured: dict[str, Any] = {"/api/devices": {"get": {"security": [{"own": []}], "responses": {}}}}
    service.serve(DOCUMENT | {"paths": DOCUMENT["paths"] | secured})
    routes = [{"path": "/api/devices/nowhere", "methods": ["PUT"]}, {"path": "/api/devices/{x}", "auth": "required"}]
    printed = flask("drift", settings=drift_settings(service, auth="none", routes=routes), code=1)
    lines = printed.splitlines()
    assert any("GET /api/devices (policy devices): the service requires credentials" in line for line in lines)
    assert any(
        "GET /api/devices/{id} (policy devices.x): the service requires no credentials" in line for line in lines
    )
    assert any("PUT /api/devices/nowhere" in line and "no operation" in line for line in lines)
    assert "\x1b" not in printed
