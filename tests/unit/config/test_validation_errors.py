"""All errors are reported at once, each with the full name of its setting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from tests.support.configuration import (
    ORDERS,
    devices,
    errors_in,
    errors_of,
    errors_with_help,
    loaded,
    settings_or_error,
)
from tests.support.environments import ENVIRONMENTS


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"GATEWAY_SERVER": "1", "WEB_CONCURRENCY": "1"}, "server: must be a table (from GATEWAY_SERVER)"),
        ({"WEB_CONCURRENCY": "many"}, "server.workers: must be an integer (from WEB_CONCURRENCY)"),
        (
            {"GATEWAY_JWT__SECRET": "short"},
            "jwt.secret: must have at least 32 bytes (RFC 7518 3.2) (from GATEWAY_JWT__SECRET)",
        ),
        ({"PORT": "99999"}, "server.bind: PORT must be a port, a number from 0 to 65535, got '99999'"),
        (
            {"GATEWAY_SERVICES": '{"devices": {"weights": [1, 2]}}'},
            "services.devices.weights: 2 for 1 targets (from GATEWAY_SERVICES)",
        ),
    ],
)
def test_an_error_in_the_environment_names_its_variable(environ: dict[str, str], line: str) -> None:
    assert errors_with_help(environ) == [line]


def test_what_could_not_be_read_is_not_also_missing() -> None:
    orders = {"GATEWAY_SERVICES__ORDERS__PREFIX": "/api/orders", "GATEWAY_SERVICES__ORDERS__TARGETS": "http://h"}
    assert [line.partition(":")[0] for line in errors_in(orders)] == ["services.orders.targets"]
    nothing = {"GATEWAY_DEFAULT_SERVICES": "false", "GATEWAY_SERVICES": "orders"}
    assert [line.partition(":")[0] for line in errors_in(nothing)] == ["services"]


# For each error, its first words and the variables that cause it.
ERRORS: dict[str, dict[str, str]] = {
    "services.rules.targets[1]: scheme must be http or https, got 'ftp'": {
        "GATEWAY_SERVICES__RULES__TARGETS": '["http://h", "ftp://h"]'
    },
    "services.devices.read_timeout_seconds: must be greater than 0": {
        "GATEWAY_SERVICES__DEVICES__READ_TIMEOUT_SECONDS": "0"
    },
    "services.rules.prefix: '/api/rules' belongs to services.livestreams already": {
        "GATEWAY_SERVICES__LIVESTREAMS__PREFIX": "/api/rules"
    },
    "services.auth.colour: there is no such setting": {"GATEWAY_SERVICES__AUTH__COLOUR": "red"},
    "services.auth.limits: GATEWAY_SERVICES__AUTH__LIMITS must be JSON": {
        "GATEWAY_SERVICES__AUTH__LIMITS": "10/minute"
    },
    "services.devices.routes[0].path: '/api/x' is not below": {
        "GATEWAY_SERVICES__DEVICES__ROUTES": '[{"path": "/api/x"}]'
    },
    "services.devices.targets: must not be empty": {"GATEWAY_SERVICES__DEVICES__TARGETS": "[]"},
    "services.static: this name is the gateway's own": {"GATEWAY_SERVICES__STATIC": json.dumps(ORDERS)},
    "services.pages.prefix: '/docs' is the gateway's own": {
        "GATEWAY_SERVICES__PAGES": '{"prefix": "/docs", "targets": ["http://h"]}'
    },
    "services.nowhere.targets: is missing": {"GATEWAY_SERVICES__NOWHERE": '{"prefix": "/nowhere"}'},
    "services.slash.prefix: must be like /api/devices: ": {
        "GATEWAY_SERVICES__SLASH": '{"prefix": "/slash/", "targets": ["http://h"]}'
    },
    'services.open.auth: "none" can\'t be combined with scopes': {
        "GATEWAY_SERVICES__OPEN": '{"prefix": "/open", "targets": ["http://h"], "auth": "none", "scopes": ["x"]}'
    },
    "services.my-name: must be named with lower-case letters": {
        "GATEWAY_SERVICES__MY-NAME": '{"prefix": "/my", "targets": ["http://h"]}'
    },
    "jwt.secret: must have at least 32 bytes": {"GATEWAY_JWT__SECRET": "short"},
    "jwt.algorithms: only HS* can be verified with a secret": {"GATEWAY_JWT__ALGORITHMS": '["RS256"]'},
    "cors: credentials = true can't be combined with origins": {
        "GATEWAY_CORS__ORIGINS": '["*"]',
        "GATEWAY_CORS__CREDENTIALS": "yes",
    },
    "cors.max_age_seconds: must be greater than or equal to 0": {"GATEWAY_CORS__MAX_AGE_SECONDS": "-1"},
    'ratelimit.default: must be like "300/minute"': {"GATEWAY_RATELIMIT__DEFAULT": "lots"},
    "proxy: must be a table": {"GATEWAY_PROXY": "5"},
    "redis_url: scheme must be one of redis, rediss, unix, ": {"REDIS_URL": "http://:hunter2@h"},
    "server.bind: PORT must be a port": {"PORT": "http"},
    "server.workers: must be an integer": {"WEB_CONCURRENCY": "many"},
    "jwt_secret: there is no such setting": {"GATEWAY_JWT_SECRET": "x"},
}


@given(st.sets(st.sampled_from(sorted(ERRORS)), min_size=1))
@settings(max_examples=100, deadline=None)
def test_all_errors_are_reported_at_once_and_nothing_else(expected: set[str]) -> None:
    errors = errors_in({name: text for line in expected for name, text in ERRORS[line].items()})
    assert len(errors) == len(expected)
    for line in expected:
        assert any(one.startswith(line) for one in errors), (line, errors)


def test_all_errors_of_one_service_are_reported_at_once() -> None:
    orders: dict[str, Any] = {
        "prefix": "/api/devices",
        "targets": ["ftp://h"],
        "auth": "none",
        "scopes": ["x", "y z"],
        "limits": ["lots"],
        "client_key_file": "/key.pem",
        "routes": [{"path": "bad"}, {"path": "/api/x"}, {"path": "/api/devices/a", "methods": ["*"]}],
    }
    assert sorted(line.partition(": ")[0] for line in errors_of({"services": {"orders": orders}})) == [
        "services.orders",
        "services.orders.limits[0]",
        "services.orders.prefix",
        "services.orders.routes[0].path",
        "services.orders.routes[1].path",
        "services.orders.routes[2].methods[0]",
        "services.orders.scopes[1]",
        "services.orders.targets[0]",
    ]


def test_an_invalid_key_source_still_decides_which_algorithms_fit() -> None:
    jwt: dict[str, Any] = {"public_key_file": "", "algorithms": ["RS256"]}
    assert errors_of({"jwt": jwt}) == ["jwt.public_key_file: must be the path of a file"]
    errors = errors_of({"jwt": {"public_key_file": "/key.pem", "secret": "short", "algorithms": ["RS256"]}})
    assert [line.partition(": ")[0] for line in errors] == ["jwt.secret", "jwt"]
    issuers = [{"issuer": "a", "secret": "short"}, {"issuer": "", "public_key_file": "/key.pem"}]
    errors = errors_of({"jwt": {"issuers": issuers}})
    assert [line.partition(": ")[0] for line in errors] == ["jwt.issuers[0].secret", "jwt.issuers[1].issuer"]


@given(ENVIRONMENTS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_environment_is_loaded_or_refused_with_names(environ: dict[str, str]) -> None:
    found = settings_or_error(environ)
    if isinstance(found, ConfigurationError):
        assert found.errors
        assert len(set(found.errors)) == len(found.errors)
        for line in found.errors:
            name, _, said = line.partition(": ")
            assert name
            assert said
            # The error is a single line that can be encoded as UTF-8.
            assert "\n" not in line
            assert line.encode()
    else:
        assert found.services


@pytest.mark.parametrize("name", ["string", "strava", "tuple", "function", "str", "o", "orders_2", "services"])
def test_errors_of_a_service_contain_its_name(name: str) -> None:
    assert loaded({"services": {name: ORDERS}}).services[name].prefix == "/api/orders"
    assert errors_of({"services": {name: {**ORDERS, "colour": "red", "targets": ["x"]}}}) == [
        f"services.{name}.targets[0]: must be like http://host:port, got 'x'",
        f"services.{name}.colour: there is no such setting",
    ]


@pytest.mark.parametrize(
    ("tree", "error"),
    [
        ({"foo": 1}, "foo: there is no such setting"),
        ({"jwt": {"secrett": "x"}}, "jwt.secrett: there is no such setting"),
        ({"jwt_secret": "x"}, "jwt_secret: there is no such setting"),
        ({"jwt": {"": "x"}}, 'jwt."": there is no such setting'),
        (devices(target="x"), "services.devices.target: there is no such setting"),
        (
            devices(routes=[{"path": "/api/devices/x", "method": "GET"}]),
            "services.devices.routes[0].method: there is no such setting",
        ),
        ({"services": {"device": {"targets": ["http://h"]}}}, "services.device.prefix: is missing"),
        ({"services": {"orders": {"prefix": "/api/orders"}}}, "services.orders.targets: is missing"),
        (devices(routes=[{"auth": "none"}]), "services.devices.routes[0].path: is missing"),
        (devices(routes={"0": {"limits": []}}), "services.devices.routes: must be a list"),
        (devices(prefix={"x": "y"}), "services.devices.prefix: must be a string"),
        ({"jwt": "[1]"}, "jwt: must be a table"),
        ({"services": "[1]"}, "services: must be a table"),
        ({"services": {"devices": "5"}}, "services.devices: must be a table"),
        (devices(targets="null"), "services.devices.targets: must be a list"),
        (devices(targets=[8004]), "services.devices.targets[0]: must be a string"),
        (devices(targets=[]), "services.devices.targets: must not be empty"),
        ({"server": {"workers": "many"}}, "server.workers: must be an integer"),
        ({"server": {"workers": "0"}}, "server.workers: must be greater than or equal to 1"),
        (
            devices(max_body_bytes="100 parsecs"),
            'services.devices.max_body_bytes: must be a number of bytes, or one with a unit such as "20MB" or "64KiB", '
            "got '100 parsecs'",
        ),
        (devices(read_timeout_seconds="30s"), "services.devices.read_timeout_seconds: must be a number"),
        (devices(read_timeout_seconds="nan"), "services.devices.read_timeout_seconds: must be a finite number"),
        (devices(read_timeout_seconds="0"), "services.devices.read_timeout_seconds: must be greater than 0"),
        (devices(strip_prefix="maybe"), "services.devices.strip_prefix: must be true or false"),
        (devices(auth="optional"), "services.devices.auth: must be 'required' or 'none'"),
        ({"default_services": "maybe"}, "default_services: must be true or false"),
        (
            {"ratelimit": {"on_redis_failure": "ignore"}},
            "ratelimit.on_redis_failure: must be 'local', 'open' or 'closed'",
        ),
        ({"jwt": {"issuer": ""}}, "jwt.issuer: must not be empty"),
        ({"jwt": {"audience": ""}}, "jwt.audience: must be a string, or a list of strings, none of them empty"),
        ({"jwt": {"audience": "[]"}}, "jwt.audience: must be a string, or a list of strings"),
        ({"jwt": {"audience": "[1]"}}, "jwt.audience: must be a string, or a list of strings, none of them empty"),
        ({"jwt": {"required_claims": [""]}}, "jwt.required_claims[0]: must not be empty"),
        ({"jwt": {"public_key_file": ""}}, "jwt.public_key_file: must be the path of a file"),
        (
            devices(scopes=["read write"]),
            "services.devices.scopes[0]: must be one scope, without blanks (RFC 6749 3.3), got 'read write'",
        ),
        (devices(scopes=[""]), "services.devices.scopes[0]: must be one scope, without blanks (RFC 6749 3.3), got ''"),
    ],
)
def test_a_single_error(tree: Mapping[str, Any], error: str) -> None:
    assert errors_of(tree) == [error]
