"""Conflicts between the settings of a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.configuration import (
    ORDERS,
    devices,
    errors_of,
    loaded,
    route,
)

TWO = ["http://a:1", "http://b:1"]


@pytest.mark.parametrize(
    ("service", "error"),
    [
        ({"breaker": {"open_seconds": 31}}, "breaker.open_seconds: 31 is over max_open_seconds (30)"),
        ({"breaker": {"max_open_seconds": 0.5}}, "breaker.open_seconds: 1 is over max_open_seconds (0.5)"),
        ({"targets": TWO, "health": {"path": "/h", "min_available": 3}}, "health.min_available: 3 of 2 targets"),
        (
            {"health": {"interval_seconds": 5}},
            "health.interval_seconds: has no effect without path",
        ),
        ({"max_in_flight_per_target": 401}, "max_in_flight_per_target: 401 is over max_in_flight (400)"),
        (
            {"max_uploads_in_flight": 0.1, "max_uploads_in_flight_per_caller": 0.2},
            "max_uploads_in_flight_per_caller: 0.2 is over max_uploads_in_flight (0.1)",
        ),
    ],
)
def test_settings_without_effect(service: dict[str, Any], error: str) -> None:
    assert errors_of(devices(**service)) == [f"services.devices.{error}"]


@pytest.mark.parametrize("other", ["http://a", "http://a:80", "http://A", "http://a/", "HTTP://a:80/", "http://a."])
def test_a_target_that_is_listed_twice(other: str) -> None:
    (line,) = errors_of(devices(targets=["http://a", "http://b", other]))
    assert line.startswith("services.devices.targets[2]: ")
    assert line.endswith(" is the same target as 'http://a'; use weights for a larger share")


@pytest.mark.parametrize(
    "service",
    [
        {"targets": ["http://a", "https://a", "http://a:81", "http://a/x", "http://a/X"]},
        {"targets": TWO, "health": {"path": "/h", "min_available": 2}},
        {"breaker": {"open_seconds": 30}},
        # Settings that have their default value are accepted even without an effect, so that whole tables can be
        # copied.
        {"health": {"interval_seconds": 10, "timeout_seconds": 2, "min_available": 1}},
        {"max_uploads_in_flight": 0.1},
    ],
)
def test_settings_with_an_effect(service: dict[str, Any]) -> None:
    loaded(devices(**service))


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
def test_routes_outside_of_the_prefix_and_repeated_placeholders(path: str, said: str) -> None:
    errors = errors_of(devices(routes=[{"path": "/api/devices/good"}, {"path": path}]))
    assert errors == [f"services.devices.routes[1].path: {said}"]


def test_a_path_and_a_method_have_one_policy() -> None:
    good = [route("a"), route("a", "GET"), route("a", "PUT"), route("a/**"), route("{x}")]
    assert len(loaded(devices(routes=good)).services["devices"].routes) == 5
    twice = [route("a", "GET"), route("a", "get"), route("{x}"), route("{y}"), route("b/**"), route("b/**")]
    assert errors_of(devices(routes=twice)) == [
        "services.devices.routes[1].path: '/api/devices/a' has a policy for GET already",
        "services.devices.routes[3].path: '/api/devices/{y}' has a policy for any method already",
        "services.devices.routes[5].path: '/api/devices/b/**' has a policy for any method already",
    ]


def test_scopes_need_a_token() -> None:
    errors = errors_of(devices(auth="none", scopes=["x"]))
    assert errors == ['services.devices.auth: "none" can\'t be combined with scopes']
    errors = errors_of(devices(scopes=["x"], routes=[{**route("open"), "auth": "none"}]))
    assert errors == ['services.devices.routes[0].auth: "none" can\'t be combined with scopes; set scopes = []']
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


def test_host_and_preserve_host_are_alternatives() -> None:
    assert errors_of(devices(host="a", preserve_host=True)) == [
        "services.devices.host: can't be combined with preserve_host = true"
    ]


@pytest.mark.parametrize(
    "name", ["max_in_flight_per_caller", "max_uploads_in_flight", "max_uploads_in_flight_per_caller"]
)
def test_shares_are_more_than_nothing_and_not_more_than_all(name: str) -> None:
    assert getattr(loaded(devices(**{name: 0.1})).services["devices"], name) == 0.1
    for share in (0, 1.5, -1):
        (error,) = errors_of(devices(**{name: share}))
        assert error.startswith(f"services.devices.{name}: ")


def test_a_service_without_a_document() -> None:
    orders = {**ORDERS, "openapi_path": "", "routes": [{"path": "/api/orders/x", "undocumented": "allow"}]}
    assert loaded({"services": {"orders": orders}}).services["orders"].openapi_path == ""
    orders |= {"drift_ignore": ["open_but_protected"], "undocumented": "refuse"}
    orders |= {"routes": [{"path": "/api/orders/x", "undocumented": "log"}]}
    no_effect = 'has no effect with openapi_path = ""'
    assert errors_of({"services": {"orders": orders}}) == [
        f'services.orders.undocumented: "refuse" {no_effect}',
        f'services.orders.routes[0].undocumented: "log" {no_effect}',
        f"services.orders.drift_ignore: {no_effect}",
    ]
