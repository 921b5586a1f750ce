"""Settings from environment variables."""

from __future__ import annotations

import json

import pytest

from gateway.config import Settings, load_settings
from gateway.config.token_models import DEFAULT_MAPPING
from tests.support.configuration import (
    ORDERS,
    errors_in,
    loaded,
)
from tests.support.tokens import SECRET
from tests.unit.config.conftest import Configured


def test_a_variable_changes_one_value_only() -> None:
    targets = ("http://10.0.0.7:8004", "http://10.0.0.8:8004/base")
    found, before = load_settings({"GATEWAY_SERVICES__DEVICES__TARGETS": json.dumps(targets)}), load_settings({})
    expected = before.services["devices"].model_copy(update={"targets": targets})
    assert found == before.model_copy(update={"services": before.services | {"devices": expected}})
    assert found != before


def test_a_whole_table_as_json_and_single_values_of_it_beside_it() -> None:
    found = load_settings(
        {
            "GATEWAY_SERVICES__ORDERS__AUTH": "none",
            "GATEWAY_SERVICES__ORDERS": json.dumps(
                {**ORDERS, "auth": "required", "routes": [{"path": "/api/orders/x"}]}
            ),
            "GATEWAY_JWT": '{"leeway_seconds": 1}',
            "GATEWAY_JWT__CLAIMS_TO_HEADERS__EMAIL": "X-Email",
            "GATEWAY_CORS__ORIGINS": '["https://app.example.com"]',
        }
    )
    assert (found.services["orders"].auth, found.services["orders"].routes[0].path) == ("none", "/api/orders/x")
    assert (found.jwt.leeway_seconds, found.jwt.claims_to_headers) == (1, {**DEFAULT_MAPPING, "email": "X-Email"})
    assert found.cors.origins == ("https://app.example.com",)


def places(found: Settings) -> tuple[str, str, int | None]:
    url = found.redis_url.get_secret_value() if found.redis_url else ""
    return url, " ".join(found.server.addresses), found.server.workers


def test_the_variables_that_every_platform_knows(configured: Configured) -> None:
    environ = configured('redis_url = "redis://file"\n[server]\nbind = "127.0.0.1:1"\nworkers = 1\n')
    assert places(load_settings(environ)) == ("redis://file", "127.0.0.1:1", 1)
    # With PORT the gateway listens on all IPv4 addresses, as gunicorn does.
    environ |= {"REDIS_URL": "redis://:pass@plain/0", "PORT": "2", "WEB_CONCURRENCY": "2"}
    assert places(load_settings(environ)) == ("redis://:pass@plain/0", "0.0.0.0:2", 2)
    environ |= {"GATEWAY_REDIS_URL": "unix:///o", "GATEWAY_SERVER__BIND": "[::1]:3", "GATEWAY_SERVER__WORKERS": "3"}
    assert places(load_settings(environ)) == ("unix:///o", "[::1]:3", 3)


def test_empty_plain_variables_and_those_of_others_are_ignored() -> None:
    others = {"REDIS_URL": "", "PORT": "", "WEB_CONCURRENCY": "", "GATEWAYS": "1", "HOME": "/x"}
    assert load_settings(others) == load_settings({})


def test_variables_of_kubernetes_for_a_service_named_gateway_are_ignored() -> None:
    links = {
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_SERVICE_PORT": "8000",
        "GATEWAY_SERVICE_PORT_HTTP": "8000",
        "GATEWAY_PORT": "tcp://10.0.0.1:8000",
        "GATEWAY_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "GATEWAY_PORT_8000_TCP_PROTO": "tcp",
        "GATEWAY_PORT_8000_TCP_PORT": "8000",
        "GATEWAY_PORT_8000_TCP_ADDR": "10.0.0.1",
        "GATEWAY_REDIS_SERVICE_HOST": "10.0.0.2",
        "GATEWAY_REDIS_PORT": "tcp://10.0.0.2:6379",
        "GATEWAY_REDIS_PORT_6379_TCP_ADDR": "10.0.0.2",
    }
    assert load_settings(links) == load_settings({})
    # Kubernetes sets variables like GATEWAY_PORT for a service `gateway`, but never to a plain number. So this is a
    # mistake of the operator.
    assert errors_in({"GATEWAY_PORT": "9000"}) == ["port: there is no such setting"]


@pytest.mark.parametrize(
    ("name", "text", "example"),
    [
        ("GATEWAY_SERVICES__DEVICES__TARGETS", "http://h", '["one", "two"]'),
        ("GATEWAY_SERVICES__DEVICES__TARGETS", '["http://h"', '["one", "two"]'),
        ("GATEWAY_SERVICES__DEVICES__TARGETS", "", '["one", "two"]'),
        ("GATEWAY_CORS__ORIGINS", "https://a.example,https://b.example", '["one", "two"]'),
        ("GATEWAY_JWT__AUDIENCE", "[one, two]", '["one", "two"]'),
        ("GATEWAY_JWT", "issuer", '{"name": "value"}'),
        ("GATEWAY_SERVICES__ORDERS", "{", '{"name": "value"}'),
        ("GATEWAY_JWT__ALGORITHMS", "[" * 100_000, '["one", "two"]'),
        ("GATEWAY_SERVICES__DEVICES__SCOPES", "[" + "1" * 5000 + "]", '["one", "two"]'),
    ],
)
def test_a_variable_that_must_be_json(name: str, text: str, example: str) -> None:
    (error,) = errors_in({name: text})
    setting = name.removeprefix("GATEWAY_").lower().replace("__", ".")
    assert error.startswith(f"{setting}: {name} must be JSON such as {example}: ")


def test_a_value_that_is_not_a_table_has_no_settings() -> None:
    assert errors_in({"GATEWAY_JWT__SECRET": SECRET, "GATEWAY_JWT__SECRET__X": "1"}) == [
        "jwt.secret.x: GATEWAY_JWT__SECRET__X can't be set: jwt.secret is not a table"
    ]
    assert errors_in({"GATEWAY_JWT": "[1]", "GATEWAY_JWT__ISSUER": "x"}) == [
        "jwt.issuer: GATEWAY_JWT__ISSUER can't be set: jwt is not a table",
        "jwt: must be a table",
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {"GATEWAY_JWT__ISSUER": "\udcff"},
        {"GATEWAY_JWT": '{"issuer": "\\ud800"}'},
        {"GATEWAY_JWT__ISS\udcff": "x"},
        {"REDIS_URL": "redis://\udcff"},
    ],
)
def test_errors_about_bytes_that_are_not_utf8_are_ascii(environ: dict[str, str]) -> None:
    (error,) = errors_in(environ)
    assert error.endswith(": is not UTF-8")
    assert error.isascii()


@pytest.mark.parametrize(
    "secret",
    [
        '["0123456789012345678901234567890123456789"]',
        "[0123456789012345678901234567890123456789",
        '{"a": "0123456789012345678901234567890123456789"}',
        "{0123456789012345678901234567890123456789",
        "0123456789012345678901234567890123456789",
        "1e400000000000000000000000000000000000000",
        '"01234567890123456789012345678901234567"',
        "true                                    ",
        "pässwörter-sind-auch-nur-buchstaben",
    ],
)
def test_a_secret_is_used_as_it_is_written(secret: str) -> None:
    found = load_settings({"GATEWAY_JWT__SECRET": secret}).jwt.secret
    assert found is not None
    assert found.get_secret_value() == secret


def test_strings_that_look_like_other_types_stay_strings() -> None:
    jwt = loaded({}, GATEWAY_JWT__ISSUER="123", GATEWAY_JWT__AUDIENCE="null").jwt
    assert (jwt.issuer, jwt.audience) == ("123", "null")


@pytest.mark.parametrize("port", ["http", "65536", "-1", "80 ", "tcp://10.0.0.1:80"])
def test_an_invalid_port(port: str) -> None:
    assert errors_in({"PORT": port}) == [f"server.bind: PORT must be a port, a number from 0 to 65535, got {port!r}"]
