"""The built-in services, and how configured settings are merged over them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.config import Settings, load_settings
from tests.support.configuration import (
    ORDERS,
    errors_in,
    loaded,
)
from tests.unit.config.conftest import Configured


def test_the_built_in_services() -> None:
    services = load_settings({}).services
    assert {name: (service.prefix, service.targets, service.auth) for name, service in services.items()} == {
        "auth": ("/api/auth", ("http://127.0.0.1:8001",), "required"),
        "livestreams": ("/api/livestreams", ("http://127.0.0.1:8002",), "required"),
        "rules": ("/api/rules", ("http://127.0.0.1:8003",), "required"),
        "devices": ("/api/devices", ("http://127.0.0.1:8004",), "required"),
    }
    assert [(route.path, route.methods, route.auth) for route in services["auth"].routes] == [
        ("/api/auth/login", ("POST",), "none"),
        ("/api/auth/register", ("POST",), "none"),
        ("/api/auth/refresh", ("POST",), "none"),
    ]
    assert [services[name].routes for name in ("livestreams", "rules", "devices")] == [(), (), ()]


def routes_of(settings: Settings, name: str = "auth") -> list[tuple[str, tuple[str, ...], str | None]]:
    return [(route.path, route.methods, route.auth) for route in settings.services[name].routes]


LOGIN, REGISTER, REFRESH = ((f"/api/auth/{word}", ("POST",), "none") for word in ("login", "register", "refresh"))


def test_configured_routes_are_added_to_built_in_ones(configured: Configured) -> None:
    found = load_settings(configured('[[services.auth.routes]]\npath = "/api/auth/token"\nauth = "none"\n'))
    assert routes_of(found) == [("/api/auth/token", (), "none"), LOGIN, REGISTER, REFRESH]
    # Errors have the indices of the configured routes in the file, not those of the merged list.
    errors = errors_in(configured('[[services.auth.routes]]\npath = "/api/x"\n'))
    assert errors == ["services.auth.routes[0].path: '/api/x' is not below the prefix '/api/auth'"]


@pytest.mark.parametrize(
    ("route", "left"),
    [
        ({"path": "/api/auth/login", "methods": ["POST"], "limits": ["1/minute"]}, [REGISTER, REFRESH]),
        ({"path": "/api/auth/login", "methods": ["post", "GET"]}, [REGISTER, REFRESH]),
        # A configured route without methods matches all methods, so it replaces the built-in route at this path.
        ({"path": "/api/auth/login", "auth": "required"}, [REGISTER, REFRESH]),
        ({"path": "/api/auth/login", "methods": ["GET"]}, [LOGIN, REGISTER, REFRESH]),
        ({"path": "/api/auth/login/**", "methods": ["POST"]}, [LOGIN, REGISTER, REFRESH]),
    ],
)
def test_a_configured_route_replaces_the_methods_of_a_built_in_one(route: dict[str, Any], left: list[Any]) -> None:
    found = loaded({"services": {"auth": {"routes": [route]}}})
    assert routes_of(found)[1:] == left


def test_built_in_routes_follow_their_prefix(configured: Configured) -> None:
    found = load_settings(configured('[services.auth]\nprefix = "/v1/auth"\n'))
    assert routes_of(found) == [(f"/v1/auth/{word}", ("POST",), "none") for word in ("login", "register", "refresh")]
    assert routes_of(load_settings({"GATEWAY_SERVICES__AUTH__PREFIX": "/"}))[0] == ("/login", ("POST",), "none")
    moved = {"prefix": "/v1/auth", "routes": [{"path": "/v1/auth/login", "methods": ["POST"]}]}
    assert routes_of(loaded({"services": {"auth": moved}})) == [
        ("/v1/auth/login", ("POST",), None),
        ("/v1/auth/register", ("POST",), "none"),
        ("/v1/auth/refresh", ("POST",), "none"),
    ]


@pytest.mark.parametrize("routes", ["x", 5, [5], [{"path": 5}], [{"path": "/api/auth/login", "methods": 5}], {"a": 1}])
def test_invalid_routes_are_reported_by_validation(routes: Any) -> None:
    errors = errors_in({"GATEWAY_SERVICES": json.dumps({"auth": {"routes": routes}})})
    assert errors
    assert all(line.startswith("services.auth.routes") for line in errors)


def test_without_built_in_services_a_service_has_only_its_own_routes(configured: Configured) -> None:
    toml = 'default_services = false\n[services.auth]\nprefix = "/api/auth"\ntargets = ["http://h"]\n'
    assert routes_of(load_settings(configured(toml))) == []


@pytest.mark.parametrize("off", ["false", "False", "FALSE", "0", "no", "off", "f", "N"])
def test_default_services_off_by_variable(off: str) -> None:
    found = loaded({"services": {"orders": ORDERS}}, GATEWAY_DEFAULT_SERVICES=off)
    assert (list(found.services), found.default_services) == (["orders"], False)


@pytest.mark.parametrize("off", ["false", "0", "'False'", '"off"'])
def test_default_services_off_in_the_file(off: str, configured: Configured) -> None:
    toml = f"default_services = {off}\n[services.orders]\nprefix = '/api/orders'\ntargets = ['http://h']\n"
    assert list(load_settings(configured(toml)).services) == ["orders"]
