"""Defaults, and conflicts between settings of different tables."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config import load_settings
from tests.support.configuration import (
    ORDERS,
    errors_in,
    errors_of,
    loaded,
    route,
)


def test_defaults() -> None:
    found = load_settings({})
    assert (found.redis_url, found.jwt.secret, found.jwt.public_key_file) == (None, None, None)
    assert (found.jwt.leeway_seconds, found.jwt.required_claims) == (5, ("exp", "sub"))
    assert found.jwt.claims_to_headers == {"sub": "X-User-Subject", "user_id": "X-User-Id"}
    assert (found.cors.origins, found.cors.credentials) == ((), False)
    assert (found.ratelimit.default, found.ratelimit.anonymous) == ("300/minute", "60/minute")
    assert found.ratelimit.on_redis_failure == "local"
    assert found.proxy.trusted_hops == 0
    assert (found.server.bind, found.server.worker) == ("127.0.0.1:8000", "gevent")
    service = found.services["devices"]
    assert (service.scopes, service.limits, service.strip_prefix, service.preserve_host) == ((), (), False, False)
    assert (service.connect_timeout_seconds, service.read_timeout_seconds) == (2, 30)
    assert (service.max_body_bytes, service.max_in_flight, service.encoded_slashes) == (104857600, 400, "refuse")


def test_settings_do_not_change() -> None:
    found = load_settings({})
    with pytest.raises(ValidationError):
        found.jwt.leeway_seconds = 9
    with pytest.raises(ValidationError):
        found.services["devices"].auth = "none"


def test_at_least_one_service_is_required() -> None:
    expected = ["services: there is none; add a [services.NAME] table or leave default_services on"]
    assert errors_in({"GATEWAY_DEFAULT_SERVICES": "false"}) == expected


@pytest.mark.parametrize(
    ("tree", "error"),
    [
        ({"jwt": {"jwks_refresh_seconds": 60}}, "jwt.jwks_refresh_seconds: needs jwks_url"),
        (
            {"server": {"connections_per_client": 3000}},
            "server.connections_per_client: is over connections_per_worker (2000)",
        ),
        ({"redis_prefix": "{shop}"}, "redis_prefix: must be letters, digits and . _ : - such as shop:, got '{shop}'"),
    ],
)
def test_conflicts_of_single_settings(tree: dict[str, Any], error: str) -> None:
    assert errors_of(tree) == [error]


@pytest.mark.parametrize("name", ["gateway", "static"])
def test_reserved_service_names(name: str) -> None:
    assert errors_of({"services": {name: ORDERS}}) == [f"services.{name}: this name is the gateway's own"]


@pytest.mark.parametrize(
    "path",
    [
        *("/healthz", "/readyz", "/openapi.json", "/openapi", "/docs", "/metrics", "/status", "/.well-known"),
        "/openapi/devices.json",
    ],
)
def test_reserved_paths(path: str) -> None:
    segment = "/" + path.split("/")[1]
    errors = errors_of({"services": {"orders": {**ORDERS, "prefix": path}}})
    assert errors == [f"services.orders.prefix: {segment!r} is the gateway's own"]
    everything = {"prefix": "/", "targets": ["http://h"], "routes": [{"path": "/x"}, {"path": path}]}
    errors = errors_of({"services": {"web": everything}})
    assert errors == [f"services.web.routes[1].path: {segment!r} is the gateway's own"]


@pytest.mark.parametrize(
    "path", ["/docs/internal/**", "/status/{id}", "/metrics/x", "/.well-known/acme-challenge/{id}"]
)
def test_a_service_at_the_root_may_have_routes_below_reserved_paths(path: str) -> None:
    service = {"prefix": "/", "targets": ["http://h"], "routes": [{"path": path}]}
    assert loaded({"services": {"web": service}}).services["web"].routes[0].path == path
    (error,) = errors_of({"services": {"web": {**service, "prefix": "/docs/internal", "routes": []}}})
    assert error == "services.web.prefix: '/docs' is the gateway's own"


def test_a_prefix_belongs_to_one_service() -> None:
    errors = errors_of({"services": {"orders": {**ORDERS, "prefix": "/api/devices"}}})
    assert errors == ["services.orders.prefix: '/api/devices' belongs to services.devices already"]
    # The longer prefix of another service is valid.
    longer = loaded({"services": {"orders": {**ORDERS, "prefix": "/api/devices/orders"}}})
    assert len(longer.services) == 5


def test_a_route_is_not_below_another_services_prefix() -> None:
    inner = {**ORDERS, "prefix": "/api/devices/orders"}
    routes = [route("ordersx"), route("orders"), route("orders/{id}/**")]
    errors = errors_of({"services": {"orders": inner, "devices": {"routes": routes}}})
    said = "belongs to services.orders, by its longer prefix"
    assert errors == [
        f"services.devices.routes[1].path: '/api/devices/orders' {said}",
        f"services.devices.routes[2].path: '/api/devices/orders/{{id}}' {said}",
    ]


def test_credentials_need_listed_origins() -> None:
    errors = errors_of({"cors": {"origins": ["*", "null"], "credentials": True}})
    assert errors == [
        'cors: credentials = true can\'t be combined with origins = ["*"]: list the origins',
        'cors: credentials = true can\'t be combined with the origin "null", which any page can have',
    ]
    assert loaded({"cors": {"origins": ["https://*.example.com"], "credentials": True}}).cors.credentials


def test_cors_methods_and_headers_are_tokens() -> None:
    fields = ["X-Request-Id", "Content-Length", "*"]
    cors = loaded({"cors": {"expose_headers": fields, "allow_headers": fields}}).cors
    assert cors.expose_headers == cors.allow_headers == tuple(fields)
    spoiled = {"expose_headers": ["X-A, X-B"], "allow_headers": ["X-C X-D"], "methods": ["GET,POST"]}
    names = [line.partition(": ")[0] for line in errors_of({"cors": spoiled})]
    assert names == ["cors.methods[0]", "cors.allow_headers[0]", "cors.expose_headers[0]"]


def test_services_in_the_file_are_as_strict(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("configuration") / "gateway.toml"
    path.write_text(
        "redis_url = 5\n[jwt]\nsecret = 12345678901234567890123456789012\nissuer = 2020-01-01\n"
        f"[services.orders]\nprefix = '{ORDERS['prefix']}'\ntargets = 'http://h'\nmax_in_flight = 1.5\nauth = false\n"
    )
    assert errors_in({"GATEWAY_CONFIG": str(path)}) == [
        "redis_url: must be a string",
        "jwt.secret: must be a string",
        "jwt.issuer: must be a string",
        "services.orders.targets: must be a list",
        "services.orders.auth: must be 'required' or 'none'",
        "services.orders.max_in_flight: must be an integer",
    ]
