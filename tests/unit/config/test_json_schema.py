"""The JSON schema of gateway.toml accepts what the gateway accepts, and refuses typical mistakes."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.config.json_schema import json_schema
from gateway.config.limit_syntax import UNIT_SECONDS
from tests.support.configuration import schema_validator
from tests.support.documentation import PAGES, blocks

SCHEMA = json_schema()
EXAMPLES = [(name, block) for name, page in PAGES.items() for block in blocks(page, "toml")]


def errors_in(toml: str) -> list[str]:
    """The errors of a tree, each with the path of its setting."""
    return [f"{error.json_path}: {error.message}" for error in schema_validator().iter_errors(tomllib.loads(toml))]


def test_it_is_a_schema_of_draft_2020_12() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(("name", "block"), EXAMPLES)
def test_examples_of_the_documentation_are_valid(name: str, block: str) -> None:
    assert errors_in(block) == []


ORDERS = '[services.orders]\nprefix = "/api/orders"\ntargets = ["http://h"]\n'


@pytest.mark.parametrize(
    "toml",
    [
        "",
        ORDERS,
        '[services.devices]\ntargets = ["HTTPS://h:1/base", "http://[::1]:8004"]\n',
        'redis_url = "rediss+sentinel://user:p%40ss@h1:1/main/3"\n',
        '[server]\nbind = "unix:/run/gateway.sock"\nmax_head_bytes = " 64 KiB"\n',
        '[server]\nbind = ["127.0.0.1:1", "[::1]:1"]\n',
        f'[jwt]\nsecret = "{"ä" * 16}"\naudience = ["a", "b"]\nalgorithms = ["HS512"]\n',
        '[jwt.claims_to_headers]\nsub = ""\n"realm_access.roles" = "X-Roles"\n',
        '[cors]\norigins = ["*", "null", "https://*.example.com", "http://localhost:*", "http://[::1]:8080"]\n',
        '[ratelimit]\nexempt_addresses = ["10.0.0.0/8", "::1", "10.1.0.0/255.255.0.0"]\n',
        '[ratelimit]\ndefault = "10 per 5 Second; 300/minute burst 20 by claim:tenant+service | 5/day fixed"\n',
        '[[services.auth.routes]]\npath = "/api/auth/{id}/**"\nmethods = ["get"]\n[services.auth.plans]\npro = []\n',
        '[services.auth]\ndrift_ignore = ["open_but_protected", "unreachable_operation /x/**"]\nopenapi_path = ""\n',
        '[tracing]\notlp_endpoint = "http://h:4318"\nheaders = { x-key = "a" }\n',
    ],
)
def test_what_the_gateway_accepts(toml: str) -> None:
    assert errors_in(toml) == []


@pytest.mark.parametrize("unit", UNIT_SECONDS)
def test_units_of_limits(unit: str) -> None:
    assert errors_in(f'[ratelimit]\ndefault = "5/10{unit}"\nanonymous = "5 PER {unit.upper()}"\n') == []


@pytest.mark.parametrize(
    ("toml", "path"),
    [
        ("colour = 1\n", "$"),
        ("[jwt]\nsecrets = 'x'\n", "$.jwt"),
        ("[jwt]\nleeway_seconds = '5'\n", "$.jwt.leeway_seconds"),
        ("[jwt]\nleeway_seconds = 301\n", "$.jwt.leeway_seconds"),
        ("[jwt]\nsecret = 'short'\n", "$.jwt.secret"),
        ("[jwt]\nalgorithms = ['none']\n", "$.jwt.algorithms[0]"),
        ("[[jwt.issuers]]\nname = 'a'\n", "$.jwt.issuers[0]"),
        ("[jwt]\naudience = []\n", "$.jwt.audience"),
        ("[server]\nworker = 'gthread'\n", "$.server.worker"),
        ("[server]\nworkers = 1.5\n", "$.server.workers"),
        ("[server]\nmax_head_bytes = 1\n", "$.server.max_head_bytes"),
        ("[server]\nmax_head_bytes = '64 KBytes'\n", "$.server.max_head_bytes"),
        ("[cors]\norigins = ['app.example.com']\n", "$.cors.origins[0]"),
        ("[ratelimit]\ndefault = '300'\n", "$.ratelimit.default"),
        ("[ratelimit]\ndefault = '300/fortnight'\n", "$.ratelimit.default"),
        ("[ratelimit]\ndefault = ['300/minute']\n", "$.ratelimit.default"),
        ("[ratelimit.plans]\npro = '300/minute'\n", "$.ratelimit.plans.pro"),
        ("[docs]\nauth = 'optional'\n", "$.docs.auth"),
        ("redis_url = 'localhost:6379'\n", "$.redis_url"),
        ("[tracing.headers]\n'x key' = 'a'\n", "$.tracing.headers"),
        ("[services.orders]\nprefix = '/api/orders'\n", "$.services.orders"),
        (ORDERS.replace("orders]", "Orders]"), "$.services"),
        (ORDERS.replace("http:", "ftp:"), "$.services.orders.targets[0]"),
        (ORDERS.replace('"/api/orders"', '"/api/orders/"'), "$.services.orders.prefix"),
        ("[[services.devices.routes]]\nmethods = ['GET']\n", "$.services.devices.routes[0]"),
        ("[[services.devices.routes]]\npath = '/api/devices/x'\nmethod = 'GET'\n", "$.services.devices.routes[0]"),
        ("[services.devices.routes]\npath = '/api/devices/x'\n", "$.services.devices.routes"),
    ],
)
def test_typical_errors(toml: str, path: str) -> None:
    (error,) = errors_in(toml)
    assert error.partition(": ")[0] == path


def nodes(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [node for one in schema for node in nodes(one)]
    return [schema, *nodes(list(schema.values()))] if isinstance(schema, dict) else []


def test_no_secret_has_a_default_and_nothing_is_null() -> None:
    secrets = [node for node in nodes(SCHEMA) if node.get("writeOnly")]
    assert len(secrets) == 4
    assert not any("default" in node for node in secrets)
    assert not any(node.get("type") == "null" or node.get("default", "") is None for node in nodes(SCHEMA))
