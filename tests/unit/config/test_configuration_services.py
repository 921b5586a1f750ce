"""Services and routes: their names, paths and policies, one by one and against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.configuration import ORDERS, devices, errors_in, errors_of, loaded


@pytest.mark.parametrize(
    "name", ["Orders", "my-orders", "1orders", "my__orders", "orders_", "_orders", "", "ördering", "a.b", "a\nb: c"]
)
def test_names_that_no_service_can_have(name: str) -> None:
    is_plain = name.replace("-", "").replace("_", "").isalnum() and name.isascii()
    said = f"must be named with lower-case letters, digits and single underscores between them, got {name!r}"
    told = errors_in({"GATEWAY_SERVICES": json.dumps({name: ORDERS})})
    assert told == [f"services.{name if is_plain else json.dumps(name)}: {said}"]


@pytest.mark.parametrize("name", ["string", "strava", "tuple", "function", "str", "o", "orders_2", "services"])
def test_names_of_services_stand_in_their_mistakes(name: str) -> None:
    assert loaded({"services": {name: ORDERS}}).services[name].prefix == "/api/orders"
    assert errors_of({"services": {name: {**ORDERS, "colour": "red", "targets": ["x"]}}}) == [
        f"services.{name}.targets[0]: must be like http://host:port, got 'x'",
        f"services.{name}.colour: there is no such setting",
    ]


@pytest.mark.parametrize("name", ["gateway", "static"])
def test_names_that_the_gateway_keeps(name: str) -> None:
    assert errors_of({"services": {name: ORDERS}}) == [f"services.{name}: this name is the gateway's own"]


@pytest.mark.parametrize(
    "path",
    [
        *("/healthz", "/readyz", "/openapi.json", "/openapi", "/docs", "/metrics", "/status", "/.well-known"),
        "/openapi/devices.json",
    ],
)
def test_paths_that_the_gateway_keeps(path: str) -> None:
    segment = "/" + path.split("/")[1]
    told = errors_of({"services": {"orders": {**ORDERS, "prefix": path}}})
    assert told == [f"services.orders.prefix: {segment!r} is the gateway's own"]
    everything = {"prefix": "/", "targets": ["http://h"], "routes": [{"path": "/x"}, {"path": path}]}
    told = errors_of({"services": {"web": everything}})
    assert told == [f"services.web.routes[1].path: {segment!r} is the gateway's own"]


@pytest.mark.parametrize(
    "path", ["/docs/internal/**", "/status/{id}", "/metrics/x", "/.well-known/acme-challenge/{id}"]
)
def test_a_service_at_the_root_has_routes_beside_the_gateways_own_names(path: str) -> None:
    service = {"prefix": "/", "targets": ["http://h"], "routes": [{"path": path}]}
    assert loaded({"services": {"web": service}}).services["web"].routes[0].path == path
    (error,) = errors_of({"services": {"web": {**service, "prefix": "/docs/internal", "routes": []}}})
    assert error == "services.web.prefix: '/docs' is the gateway's own"


@pytest.mark.parametrize("prefix", ["/status2", "/", "/a", "/api/docs", "/openapi.yaml", "/api/v1.0/a~b"])
def test_prefixes_that_are_taken(prefix: str) -> None:
    assert loaded({"services": {"orders": {**ORDERS, "prefix": prefix}}}).services["orders"].prefix == prefix


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "api", "/api/", "//api", "/api//x", "/a b", "/a%20b", "/api/./x", "/..", "/api/*", "/api/**"),
        *("/api/{id}", "/a?b", "/ä", "/a\n", "http://h/api"),
    ],
)
def test_prefixes_that_are_refused(prefix: str) -> None:
    (error,) = errors_of({"services": {"orders": {**ORDERS, "prefix": prefix}}})
    assert error.startswith("services.orders.prefix: must be like /api/devices: ")
    assert error.endswith(f"got {prefix!r}")


def test_a_prefix_belongs_to_one_service() -> None:
    told = errors_of({"services": {"orders": {**ORDERS, "prefix": "/api/devices"}}})
    assert told == ["services.orders.prefix: '/api/devices' belongs to services.devices already"]
    # A longer prefix is another one.
    longer = loaded({"services": {"orders": {**ORDERS, "prefix": "/api/devices/orders"}}})
    assert len(longer.services) == 5


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/rules/x", "'/api/rules/x' is not below the prefix '/api/devices'"),
        ("/api/devicesx", "'/api/devicesx' is not below the prefix '/api/devices'"),
        ("/api/**", "'/api/**' is not below the prefix '/api/devices'"),
        ("/**", "'/**' is not below the prefix '/api/devices'"),
        ("/api/devices/{a}/x/{a}", "has two placeholders of one name, got '/api/devices/{a}/x/{a}'"),
    ],
)
def test_routes_that_are_refused(path: str, said: str) -> None:
    told = errors_of(devices(routes=[{"path": "/api/devices/good"}, {"path": path}]))
    assert told == [f"services.devices.routes[1].path: {said}"]


@pytest.mark.parametrize(
    "path",
    [
        *("", "x", "/api/devices/", "/api/devices//x", "/api/devices/x/", "/api/devices/*", "/api/devices/**/x"),
        *("/api/devices/{a}b", "/api/devices/{}", "/api/devices/{1}", "/api/devices/<x>", "/api/devices/%41"),
        *("/api/devices/../x", "/api/devices/x?y", "**", "/api/devices/***", "/api/devices/ä", "/api/devices/x\n"),
    ],
)
def test_paths_that_no_route_can_have(path: str) -> None:
    (error,) = errors_of(devices(routes=[{"path": path}]))
    assert error.startswith("services.devices.routes[0].path: must be like /api/devices/{id} or /api/devices/admin/**")
    assert error.endswith(f"got {path!r}")


def route(path: str, *methods: str) -> dict[str, Any]:
    return {"path": f"/api/devices/{path}", "methods": list(methods)}


def test_a_path_and_a_method_have_one_policy() -> None:
    good = [route("a"), route("a", "GET"), route("a", "PUT"), route("a/**"), route("{x}")]
    assert len(loaded(devices(routes=good)).services["devices"].routes) == 5
    twice = [route("a", "GET"), route("a", "get"), route("{x}"), route("{y}"), route("b/**"), route("b/**")]
    assert errors_of(devices(routes=twice)) == [
        "services.devices.routes[1].path: '/api/devices/a' has a policy for GET already",
        "services.devices.routes[3].path: '/api/devices/{y}' has a policy for any method already",
        "services.devices.routes[5].path: '/api/devices/b/**' has a policy for any method already",
    ]


def test_a_route_is_not_below_another_services_prefix() -> None:
    inner = {**ORDERS, "prefix": "/api/devices/orders"}
    routes = [route("ordersx"), route("orders"), route("orders/{id}/**")]
    told = errors_of({"services": {"orders": inner, "devices": {"routes": routes}}})
    said = "belongs to services.orders, by its longer prefix"
    assert told == [
        f"services.devices.routes[1].path: '/api/devices/orders' {said}",
        f"services.devices.routes[2].path: '/api/devices/orders/{{id}}' {said}",
    ]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("GET,POST", "must be a method such as GET, got 'GET,POST'"),
        ("", "must be a method such as GET, got ''"),
        ("*", "leave methods out where a route is for all of them"),
        ("connect", "CONNECT is never forwarded"),
        ("TRACE", "TRACE is never forwarded"),
    ],
)
def test_methods_that_no_route_can_have(method: str, said: str) -> None:
    told = errors_of(devices(routes=[route("x", "GET", method)]))
    assert told == [f"services.devices.routes[0].methods[1]: {said}"]


def test_scopes_need_a_token() -> None:
    told = errors_of(devices(auth="none", scopes=["x"]))
    assert told == ['services.devices.auth: "none" can\'t be combined with scopes']
    told = errors_of(devices(scopes=["x"], routes=[{**route("open"), "auth": "none"}]))
    assert told == ['services.devices.routes[0].auth: "none" can\'t be combined with scopes; set scopes = []']
    found = loaded(devices(scopes=["x"], routes=[{**route("open"), "auth": "none", "scopes": []}]))
    assert found.services["devices"].routes[0].scopes == ()


def test_files_for_tls_need_tls_and_each_other() -> None:
    assert errors_of(devices(targets=["https://h"], client_key_file="/key.pem")) == [
        "services.devices: client_certificate_file and client_key_file must be set together"
    ]
    assert errors_of(devices(ca_file="/ca.pem")) == [
        "services.devices.targets: none is https, but ca_file or client_certificate_file is set"
    ]
    found = loaded(devices(targets=["http://h", "HTTPS://h"], ca_file="/ca.pem"))
    assert found.services["devices"].ca_file == Path("/ca.pem")


@pytest.mark.parametrize(
    "host", ["devices.example.com", "devices:8080", "10.0.0.7", "[::1]", "[2001:db8::7]:443", "a_b"]
)
def test_hosts_that_a_service_may_be_known_by(host: str) -> None:
    assert loaded(devices(host=host)).services["devices"].host == host


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "a:",
        "a:0",
        "a:65536",
        "a:b",
        "::1",
        "[::1",
        "[a]",
        "[::1%25lo]",
        "u@h",
        "http://h",
        "h/x",
        "h,i",
        "é",
        "a\r\nb",
    ],
)
def test_hosts_that_are_none(host: str) -> None:
    (told,) = errors_of(devices(host=host))
    assert told.startswith("services.devices.host: must be a host and perhaps a port, like devices.example.com")


def test_a_host_of_its_own_and_the_clients_are_not_both_sent() -> None:
    assert errors_of(devices(host="a", preserve_host=True)) == [
        "services.devices.host: can't be combined with preserve_host = true"
    ]


@pytest.mark.parametrize(
    "name", ["max_in_flight_per_caller", "max_uploads_in_flight", "max_uploads_in_flight_per_caller"]
)
def test_shares_are_more_than_nothing_and_not_more_than_all(name: str) -> None:
    assert getattr(loaded(devices(**{name: 0.1})).services["devices"], name) == 0.1
    for share in (0, 1.5, -1):
        (told,) = errors_of(devices(**{name: share}))
        assert told.startswith(f"services.devices.{name}: ")


@pytest.mark.parametrize(
    ("path", "names", "error"),
    [
        ("/api/devices/{id}/{token}", ["token", "id"], None),
        ("/api/devices/{id}/**", ["path"], None),
        ("/api/devices/{id}", ["path"], "'path' is not a placeholder of the path (id)"),
        ("/api/devices/{id}/{token}", ["tokens"], "'tokens' is not a placeholder of the path (id, token)"),
        ("/api/devices/id", ["id"], "'id' is not a placeholder of the path (it has none)"),
    ],
)
def test_what_a_route_redacts_is_in_its_path(path: str, names: list[str], error: str | None) -> None:
    tree = devices(routes=[{"path": path, "redact": names}])
    if error is None:
        assert loaded(tree).services["devices"].routes[0].redact == tuple(names)
    else:
        assert errors_of(tree) == [f"services.devices.routes[0].redact: {error}"]


def test_a_service_without_a_document() -> None:
    orders = {**ORDERS, "openapi_path": "", "routes": [{"path": "/api/orders/x", "undocumented": "allow"}]}
    assert loaded({"services": {"orders": orders}}).services["orders"].openapi_path == ""
    orders |= {"drift_ignore": ["open_but_protected"], "undocumented": "refuse"}
    orders |= {"routes": [{"path": "/api/orders/x", "undocumented": "log"}]}
    told = 'has no effect with openapi_path = ""'
    assert errors_of({"services": {"orders": orders}}) == [
        f'services.orders.undocumented: "refuse" {told}',
        f'services.orders.routes[0].undocumented: "log" {told}',
        f"services.orders.drift_ignore: {told}",
    ]


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ("open-but-protected", " (did you mean open_but_protected?)"),
        ("GET /health", ""),
        ("", ""),
    ],
)
def test_drift_that_can_not_be_ignored(rule: str, hint: str) -> None:
    (error,) = errors_of({"services": {"orders": {**ORDERS, "drift_ignore": ["open_but_protected", rule]}}})
    assert error == (
        "services.orders.drift_ignore[1]: must begin with one of protected_but_open, open_but_protected, "
        f"route_without_operation, unreachable_operation, got {rule!r}{hint}"
    )
    (error,) = errors_of({"services": {"orders": {**ORDERS, "drift_ignore": ["open_but_protected x"]}}})
    assert error.startswith("services.orders.drift_ignore[0]: must be like /api/devices/internal/**")
