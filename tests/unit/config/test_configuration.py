"""Where settings come from, and what is told about errors: all of them at once, each by its full name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.config import KeySettings, ServerSettings, Settings, load_settings
from gateway.config.key_paths import KeyPath
from gateway.config.load import Loaded, validated
from gateway.config.sources import merged_sources
from gateway.errors import ConfigurationError
from gateway.system.cpus import usable_cpus
from tests.support.configuration import (
    ORDERS,
    errors_in,
    errors_of,
    errors_with_help,
    loaded,
    settings_or_error,
)
from tests.support.environments import ENVIRONMENTS
from tests.support.tokens import SECRET

Configured = Callable[[str | bytes], dict[str, str]]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """Writes a TOML file and gives the variable that names it."""

    def write(content: str | bytes) -> dict[str, str]:
        path = tmp_path / "gateway.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return {"GATEWAY_CONFIG": str(path)}

    return write


def test_the_built_in_mapping() -> None:
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


def test_one_worker_per_core_and_two_at_least() -> None:
    assert ServerSettings().worker_count == max(2, usable_cpus())
    assert ServerSettings(workers=1).worker_count == 1


def test_settings_do_not_change() -> None:
    found = load_settings({})
    with pytest.raises(ValidationError):
        found.jwt.leeway_seconds = 9
    with pytest.raises(ValidationError):
        found.services["devices"].auth = "none"


def test_a_variable_changes_one_value_only() -> None:
    targets = ("http://10.0.0.7:8004", "http://10.0.0.8:8004/base")
    found, before = load_settings({"GATEWAY_SERVICES__DEVICES__TARGETS": json.dumps(targets)}), load_settings({})
    expected = before.services["devices"].model_copy(update={"targets": targets})
    assert found == before.model_copy(update={"services": before.services | {"devices": expected}})
    assert found != before


def test_the_file_goes_over_the_defaults_and_the_environment_over_the_file(configured: Configured) -> None:
    environ = configured(
        """
        redis_url = "redis://file:6379/1"
        [jwt]
        issuer = "file"
        leeway_seconds = 7
        [jwt.claims_to_headers]
        email = "X-Email"
        [services.devices]
        targets = ["http://file:1"]
        read_timeout_seconds = 9.5
        [services.orders]
        prefix = "/api/orders"
        targets = ["http://file:2"]
        [[services.orders.routes]]
        path = "/api/orders/{id}"
        methods = ["get"]
        """
    )
    found = load_settings(
        environ
        | {
            "GATEWAY_JWT__ISSUER": "environment",
            "GATEWAY_SERVICES__DEVICES__TARGETS": '["http://environment:1"]',
            "GATEWAY_SERVICES__ORDERS__SCOPES": '["orders:read"]',
        }
    )
    assert (found.jwt.issuer, found.jwt.leeway_seconds) == ("environment", 7)
    assert found.jwt.claims_to_headers["email"] == "X-Email"
    devices, orders = found.services["devices"], found.services["orders"]
    assert (devices.prefix, devices.targets) == ("/api/devices", ("http://environment:1",))
    assert devices.read_timeout_seconds == 9.5
    assert (orders.scopes, orders.targets) == (("orders:read",), ("http://file:2",))
    assert orders.routes[0].methods == ("GET",)
    assert found.services["rules"] == load_settings({}).services["rules"]


def routes_of(settings: Settings, name: str = "auth") -> list[tuple[str, tuple[str, ...], str | None]]:
    return [(route.path, route.methods, route.auth) for route in settings.services[name].routes]


LOGIN, REGISTER, REFRESH = ((f"/api/auth/{word}", ("POST",), "none") for word in ("login", "register", "refresh"))


def test_routes_of_a_built_in_service_are_added_to_its_own(configured: Configured) -> None:
    found = load_settings(configured('[[services.auth.routes]]\npath = "/api/auth/token"\nauth = "none"\n'))
    assert routes_of(found) == [("/api/auth/token", (), "none"), LOGIN, REGISTER, REFRESH]
    # The numbers in errors are those of the file.
    told = errors_in(configured('[[services.auth.routes]]\npath = "/api/x"\n'))
    assert told == ["services.auth.routes[0].path: '/api/x' is not below the prefix '/api/auth'"]


@pytest.mark.parametrize(
    ("route", "left"),
    [
        ({"path": "/api/auth/login", "methods": ["POST"], "limits": ["1/minute"]}, [REGISTER, REFRESH]),
        ({"path": "/api/auth/login", "methods": ["post", "GET"]}, [REGISTER, REFRESH]),
        # Without methods it is for all of them.
        ({"path": "/api/auth/login", "auth": "required"}, [REGISTER, REFRESH]),
        ({"path": "/api/auth/login", "methods": ["GET"]}, [LOGIN, REGISTER, REFRESH]),
        ({"path": "/api/auth/login/**", "methods": ["POST"]}, [LOGIN, REGISTER, REFRESH]),
    ],
)
def test_a_route_takes_over_the_methods_of_a_built_in_one(route: dict[str, Any], left: list[Any]) -> None:
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
def test_routes_that_are_none_are_told_as_ever(routes: Any) -> None:
    told = errors_in({"GATEWAY_SERVICES": json.dumps({"auth": {"routes": routes}})})
    assert told
    assert all(line.startswith("services.auth.routes") for line in told)


def test_services_of_a_file_have_the_routes_that_are_written(configured: Configured) -> None:
    toml = 'default_services = false\n[services.auth]\nprefix = "/api/auth"\ntargets = ["http://h"]\n'
    assert routes_of(load_settings(configured(toml))) == []


DEFAULT = {"sub": "X-User-Subject", "user_id": "X-User-Id"}


@pytest.mark.parametrize(
    ("given", "mapping"),
    [
        ({}, DEFAULT),
        ({"email": "X-Email"}, {**DEFAULT, "email": "X-Email"}),
        ({"sub": "X-Caller"}, {"sub": "X-Caller", "user_id": "X-User-Id"}),
        ({"user_id": ""}, {"sub": "X-User-Subject"}),
        ({"user_id": "", "sub": ""}, {}),
        # A field that another claim takes is not set from the default one as well.
        ({"email": "x-user-subject"}, {"user_id": "X-User-Id", "email": "x-user-subject"}),
        ({"sub": "X-User-Id"}, {"sub": "X-User-Id"}),
    ],
)
def test_a_claim_that_is_mapped_leaves_the_others_as_they_are(given: dict[str, str], mapping: dict[str, str]) -> None:
    found = load_settings({"GATEWAY_JWT": json.dumps({"claims_to_headers": given})}).jwt
    assert found.claims_to_headers == mapping
    # A service may still believe the default ones.
    assert found.identity_fields == {name.lower() for name in (*mapping.values(), *DEFAULT.values())}


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
    assert (found.jwt.leeway_seconds, found.jwt.claims_to_headers) == (1, {**DEFAULT, "email": "X-Email"})
    assert found.cors.origins == ("https://app.example.com",)


def places(found: Settings) -> tuple[str, str, int | None]:
    url = found.redis_url.get_secret_value() if found.redis_url else ""
    return url, " ".join(found.server.addresses), found.server.workers


def test_the_variables_that_every_platform_knows(configured: Configured) -> None:
    environ = configured('redis_url = "redis://file"\n[server]\nbind = "127.0.0.1:1"\nworkers = 1\n')
    assert places(load_settings(environ)) == ("redis://file", "127.0.0.1:1", 1)
    # With PORT on all addresses, as gunicorn itself does: whoever sets it wants to be reached from outside.
    environ |= {"REDIS_URL": "redis://:pass@plain/0", "PORT": "2", "WEB_CONCURRENCY": "2"}
    assert places(load_settings(environ)) == ("redis://:pass@plain/0", "0.0.0.0:2", 2)
    environ |= {"GATEWAY_REDIS_URL": "unix:///o", "GATEWAY_SERVER__BIND": "[::1]:3", "GATEWAY_SERVER__WORKERS": "3"}
    assert places(load_settings(environ)) == ("unix:///o", "[::1]:3", 3)


def test_empty_plain_variables_and_those_of_others_mean_nothing() -> None:
    others = {"REDIS_URL": "", "PORT": "", "WEB_CONCURRENCY": "", "GATEWAYS": "1", "HOME": "/x"}
    assert load_settings(others) == load_settings({})


def test_what_kubernetes_sets_for_a_service_called_gateway_means_nothing() -> None:
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
    # But this is someone who wanted PORT.
    assert errors_in({"GATEWAY_PORT": "9000"}) == ["port: there is no such setting"]


@pytest.mark.parametrize("off", ["false", "False", "FALSE", "0", "no", "off", "f", "N"])
def test_without_the_built_in_mapping(off: str) -> None:
    found = loaded({"services": {"orders": ORDERS}}, GATEWAY_DEFAULT_SERVICES=off)
    assert (list(found.services), found.default_services) == (["orders"], False)


@pytest.mark.parametrize("off", ["false", "0", "'False'", '"off"'])
def test_without_the_built_in_mapping_by_the_file(off: str, configured: Configured) -> None:
    toml = f"default_services = {off}\n[services.orders]\nprefix = '/api/orders'\ntargets = ['http://h']\n"
    assert list(load_settings(configured(toml)).services) == ["orders"]


def test_without_any_service_there_is_nothing_to_start() -> None:
    expected = ["services: there is none; add a [services.NAME] table or leave default_services on"]
    assert errors_in({"GATEWAY_DEFAULT_SERVICES": "false"}) == expected


@pytest.mark.parametrize("content", ["", "\ufeff[jwt]\nleeway_seconds = 5\n", "# only this\r\n"])
def test_files_that_are_fine(content: str, configured: Configured) -> None:
    assert load_settings(configured(content)) == load_settings({})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x = \n", "is not TOML: Invalid value (at line 1, column 5)"),
        ("[jwt]\nleeway_seconds = 5\nleeway_seconds = 6\n", "is not TOML: Cannot overwrite a value"),
        (b"[jwt]\nissuer = '\xe9'\n", "is not TOML: 'utf-8' codec can't decode"),
        ("[jwt]\n".encode("utf-16"), "is not TOML: 'utf-8' codec can't decode"),
        ("[server]\nworkers = " + "1" * 5000, "is not TOML: "),
        ("x = " + "[" * 100_000, "is not TOML: "),
    ],
)
def test_a_file_that_is_not_toml(content: str | bytes, said: str, configured: Configured) -> None:
    environ = configured(content)
    (error,) = errors_in(environ | {"GATEWAY_FOO": "1"})
    assert error.startswith(f"GATEWAY_CONFIG: {environ['GATEWAY_CONFIG']!r} {said}")


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    missing, folder = str(tmp_path / "missing.toml"), str(tmp_path)
    told = [*errors_in({"GATEWAY_CONFIG": missing}), *errors_in({"GATEWAY_CONFIG": folder})]
    assert told == [
        f"GATEWAY_CONFIG: can't read {missing!r}: No such file or directory",
        f"GATEWAY_CONFIG: can't read {folder!r}: Is a directory",
    ]


def test_a_variable_for_the_file_that_is_set_to_nothing() -> None:
    (error,) = errors_in({"GATEWAY_CONFIG": ""})
    assert error.startswith("GATEWAY_CONFIG: is empty; name a file")


def loaded_from(folder: Path, environ: dict[str, str]) -> Loaded:
    return validated(merged_sources(environ, folder))


def test_gateway_toml_in_the_folder_is_read_where_no_variable_names_a_file(tmp_path: Path) -> None:
    beside, other = tmp_path / "gateway.toml", tmp_path / "other.toml"
    assert loaded_from(tmp_path, {}).file is None
    beside.write_text("[jwt]\nleeway_seconds = 7\n")
    other.write_text("[jwt]\nleeway_seconds = 8\n")
    found = loaded_from(tmp_path, {})
    assert (found.file, found.settings.jwt.leeway_seconds) == (beside, 7)
    found = loaded_from(tmp_path, {"GATEWAY_CONFIG": str(other)})
    assert (found.file, found.settings.jwt.leeway_seconds) == (other, 8)
    with pytest.raises(ConfigurationError, match="is empty"):
        loaded_from(tmp_path, {"GATEWAY_CONFIG": ""})
    beside.unlink()
    beside.symlink_to(tmp_path / "missing.toml")
    with pytest.raises(ConfigurationError, match=r"can't read '.*gateway\.toml': No such file"):
        loaded_from(tmp_path, {})


def test_each_value_knows_where_it_comes_from(configured: Configured) -> None:
    file = configured('[jwt]\nleeway_seconds = 7\ncookie = "a"\n[services.devices]\nscopes = ["x"]\n')
    environ = {
        "GATEWAY_JWT__COOKIE": "b",
        "GATEWAY_CORS": '{"origins": ["http://a"]}',
        "PORT": "1",
        "REDIS_URL": "redis://h",
    }
    found = validated(merged_sources(file | environ))
    places: dict[str, KeyPath] = {
        "default": ("jwt", "cache_size"),
        "built-in mapping": ("services", "devices", "prefix"),
        f"file {file['GATEWAY_CONFIG']}": ("jwt", "leeway_seconds"),
        "variable GATEWAY_JWT__COOKIE": ("jwt", "cookie"),
        "variable GATEWAY_CORS": ("cors", "origins", 0),
        "variable PORT": ("server", "bind"),
        "variable REDIS_URL": ("redis_url",),
    }
    assert {str(found.origins.of(place)): place for place in places.values()} == places
    assert found.origins.of(("services", "devices", "scopes")).kind == "file"
    assert found.summary() == f"the defaults, {file['GATEWAY_CONFIG']} and 4 variables of the environment"


@pytest.mark.parametrize(
    ("variable", "text", "meant"),
    [
        ("GATEWAY_JWT_SECRET", "x", "GATEWAY_JWT__SECRET"),
        ("GATEWAY_JWT__SECERT", "x", "GATEWAY_JWT__SECRET"),
        ("GATEWAY_REDIS__URL", "x", "GATEWAY_REDIS_URL"),
        ("GATEWAY_REDISURL", "x", "GATEWAY_REDIS_URL"),
        ("GATEWAY_RATE_LIMIT__DEFAULT", "x", "GATEWAY_RATELIMIT__DEFAULT"),
        ("GATEWAY_SERVER_BIND", "x", "GATEWAY_SERVER__BIND"),
        ("GATEWAY_SERVICES__DEVICES__TARGET", '["http://a"]', "GATEWAY_SERVICES__DEVICES__TARGETS"),
        ("GATEWAY_SERVICES__DEVICES_TARGETS", '["http://a"]', "GATEWAY_SERVICES__DEVICES__TARGETS"),
        ("GATEWAY_SERVICES_DEVICES__TARGETS", '["http://a"]', "GATEWAY_SERVICES__DEVICES__TARGETS"),
        ("GATEWAY_SERVICES_DEVICES_BREAKER_FAILURES", "1", "GATEWAY_SERVICES__DEVICES__BREAKER__FAILURES"),
        ("GATEWAY_SERVICES__DEVICES__BREAKER_FAILURES", "1", "GATEWAY_SERVICES__DEVICES__BREAKER__FAILURES"),
        ("GATEWAY_PORT", "9000", "PORT"),
        ("GATEWAY_WEB_CONCURRENCY", "3", "WEB_CONCURRENCY"),
    ],
)
def test_a_misspelt_variable_proposes_the_right_one(variable: str, text: str, meant: str) -> None:
    (line,) = errors_with_help({variable: text})
    assert line.endswith(f"; did you mean {meant}? (from {variable})")


@pytest.mark.parametrize(
    ("toml", "name", "meant"),
    [
        ("[jwt]\nsecrets = 'x'", "jwt.secrets", "jwt.secret"),
        ("[jtw]\nsecret = 'x'", "jtw", "jwt"),
        ("jwt_secret = 'x'", "jwt_secret", "jwt.secret"),
        ("[server]\nport = 8000", "server.port", ""),
        ("[rate_limit]\ndefault = '1/second'", "rate_limit", "ratelimit"),
        ("services.rules.health.pth = '/x'", "services.rules.health.pth", "services.rules.health.path"),
        (
            "services.rules.routes = [{ path = '/api/rules/x', method = ['GET'] }]",
            "services.rules.routes[0].method",
            "services.rules.routes[0].methods",
        ),
        (
            f"jwt.issuers = [{{ issuer = 'a', secret = '{SECRET}', audiance = 'x' }}]",
            "jwt.issuers[0].audiance",
            "jwt.issuers[0].audience",
        ),
        ("colour = 1\n", "colour", ""),
    ],
)
def test_a_misspelt_name_in_the_file_proposes_the_right_one(
    toml: str, name: str, meant: str, configured: Configured
) -> None:
    proposal = f"; did you mean {meant}?" if meant else ""
    assert errors_with_help(configured(toml)) == [f"{name}: there is no such setting{proposal}"]


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
def test_a_mistake_in_the_environment_is_told_with_its_variable(environ: dict[str, str], line: str) -> None:
    assert errors_with_help(environ) == [line]


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


def test_what_could_not_be_read_is_not_also_missing() -> None:
    orders = {"GATEWAY_SERVICES__ORDERS__PREFIX": "/api/orders", "GATEWAY_SERVICES__ORDERS__TARGETS": "http://h"}
    assert [line.partition(":")[0] for line in errors_in(orders)] == ["services.orders.targets"]
    nothing = {"GATEWAY_DEFAULT_SERVICES": "false", "GATEWAY_SERVICES": "orders"}
    assert [line.partition(":")[0] for line in errors_in(nothing)] == ["services"]


def test_nothing_is_below_a_value() -> None:
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
def test_what_is_not_utf8_can_still_be_told(environ: dict[str, str]) -> None:
    (error,) = errors_in(environ)
    assert error.endswith(": is not UTF-8")
    assert error.isascii()


# Variables with one error each, and the beginning of the line that tells it.
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
def test_every_mistake_is_told_at_once_and_nothing_else_is(expected: set[str]) -> None:
    told = errors_in({name: text for line in expected for name, text in ERRORS[line].items()})
    assert len(told) == len(expected)
    for line in expected:
        assert any(one.startswith(line) for one in told), (line, told)


def test_every_mistake_of_one_service_is_told_at_once() -> None:
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


def test_a_wrong_key_source_is_still_the_one_that_was_meant() -> None:
    jwt: dict[str, Any] = {"public_key_file": "", "algorithms": ["RS256"]}
    assert errors_of({"jwt": jwt}) == ["jwt.public_key_file: must be the path of a file"]
    told = errors_of({"jwt": {"public_key_file": "/key.pem", "secret": "short", "algorithms": ["RS256"]}})
    assert [line.partition(": ")[0] for line in told] == ["jwt.secret", "jwt"]
    issuers = [{"issuer": "a", "secret": "short"}, {"issuer": "", "public_key_file": "/key.pem"}]
    told = errors_of({"jwt": {"issuers": issuers}})
    assert [line.partition(": ")[0] for line in told] == ["jwt.issuers[0].secret", "jwt.issuers[1].issuer"]


@given(ENVIRONMENTS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_environment_loads_or_is_refused_by_name(environ: dict[str, str]) -> None:
    found = settings_or_error(environ)
    if isinstance(found, ConfigurationError):
        assert found.errors
        assert len(set(found.errors)) == len(found.errors)
        for line in found.errors:
            name, _, said = line.partition(": ")
            assert name
            assert said
            # Nothing is in it that could not be printed, or would look like another line.
            assert "\n" not in line
            assert line.encode()
    else:
        assert found.services


def test_settings_of_one_issuer_beside_several_are_named(tmp_path: Path) -> None:
    """They would have no effect, and whoever wrote `algorithms` or `audience` there relies on it."""
    one = {"issuer": "a", "secret": "s" * 40}
    file = tmp_path / "secret"
    file.write_text("s" * 40)
    beside: dict[str, Any] = {
        "secret": "s" * 40, "public_key_file": "/key.pem", "jwks_url": "https://id.test/k", "jwks_ca_file": "/a.pem",
        "algorithms": ["HS512"], "issuer": "b", "audience": "x", "token_type": "at+jwt", "lifetime_seconds": 60,
    }  # fmt: skip
    assert {*beside, "secret_file"} == set(KeySettings.model_fields)
    assert sorted(errors_of({"jwt": {**beside, "issuers": [one]}})) == sorted(
        f"jwt.{name}: must be set for each of issuers instead" for name in beside
    )
    for name, value in beside.items():
        (line,) = errors_of({"jwt": {name: value, "issuers": [one]}})
        assert line.startswith(f"jwt.{name}: must be set for each of issuers")
    (line,) = errors_of({"jwt": {"secret_file": str(file), "issuers": [one]}})
    assert line.startswith("jwt.secret_file: must be set for each of issuers")
    (line,) = errors_of({"jwt": {"algorithms": [], "issuers": [one]}})
    assert line.startswith("jwt.algorithms: ")
