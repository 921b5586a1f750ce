"""`flask check`, `services` and `routes`, and all commands while the configuration is broken."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from gateway.config.json_schema import json_schema
from tests.support.commands import run_flask
from tests.support.gateway import variables
from tests.support.sockets import free_ports
from tests.support.tokens import SECRET


def test_routes_lists_every_mapping() -> None:
    code, output, errors = run_flask("routes")
    assert (code, errors) == (0, "")
    rows = [line.split() for line in output.splitlines()[2:]]
    mapped = {(row[0].partition(".")[0], row[1], row[2]) for row in rows}
    for name in ("auth", "livestreams", "rules", "devices"):
        assert {(name, "*", f"/api/{name}"), (name, "*", f"/api/{name}/<rest:path>")} <= mapped
    for name in ("login", "register", "refresh"):
        assert ("auth", "POST", f"/api/auth/{name}") in mapped
    assert {(service, path) for service, _, path in mapped} >= {("gateway", "/healthz"), ("gateway", "/readyz")}


def test_routes_lists_what_is_configured() -> None:
    routes = [{"path": "/orders/{id}/lines/**", "methods": ["GET"]}, {"path": "/orders/open", "auth": "none"}]
    orders = {"prefix": "/orders", "targets": ["http://h"], "routes": routes}
    code, output, _ = run_flask(
        "routes", environ=variables({"jwt": {"secret": SECRET}, "services": {"orders": orders}})
    )
    assert code == 0
    rules = {line.split()[-1] for line in output.splitlines() if line.startswith("orders.")}
    assert rules == {
        "/orders",
        "/orders/<rest:path>",
        "/orders/<id>/lines",
        "/orders/<id>/lines/<rest:path>",
        "/orders/open",
    }


def test_services_lists_policies() -> None:
    routes = [{"path": "/api/devices/admin/**", "methods": ["PUT"], "scopes": ["a", "b"], "limits": ["1/minute"]}]
    devices = {"targets": ["http://one:1", "http://two:2"], "scopes": ["read"], "routes": routes}
    settings = {"jwt": {"secret": SECRET}, "ratelimit": {"default": "7/minute"}, "services": {"devices": devices}}
    code, output, errors = run_flask("services", environ=variables(settings))
    assert (code, errors) == (0, "")
    rows = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    assert rows == [
        ["SERVICE", "PATH", "METHODS", "TARGETS", "TOKEN", "SCOPES", "LIMITS"],
        ["auth", "/api/auth", "*", "http://127.0.0.1:8001", "required", "-", "7/minute (default)"],
        ["auth.login_post", "/api/auth/login", "POST", "none", "-", "60/minute (default)"],
        ["auth.register_post", "/api/auth/register", "POST", "none", "-", "60/minute (default)"],
        ["auth.refresh_post", "/api/auth/refresh", "POST", "none", "-", "60/minute (default)"],
        ["livestreams", "/api/livestreams", "*", "http://127.0.0.1:8002", "required", "-", "7/minute (default)"],
        ["rules", "/api/rules", "*", "http://127.0.0.1:8003", "required", "-", "7/minute (default)"],
        ["devices", "/api/devices", "*", "http://one:1, http://two:2", "required", "read", "7/minute (default)"],
        ["devices.admin_put", "/api/devices/admin/**", "PUT", "required", "a b", "1/minute"],
    ]


def test_check_of_a_valid_configuration() -> None:
    expected = "The configuration is valid. Services: 4; policies: 7.\n"
    assert run_flask("check") == (0, expected, "")


def test_every_error_of_a_configuration_is_reported_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        '[jwt]\nsecret = "hunter2"\n[services.rules]\ntargets = ["http://h", "ftp://h"]\ncolour = "red"\n'
    )
    environ = {"GATEWAY_CONFIG": str(tmp_path / "gateway.toml"), "GATEWAY_FOO": "1", "REDIS_URL": "redis:hunter2"}
    code, output, errors = run_flask("check", environ=environ)
    assert (code, output) == (1, "")
    heading, *lines = errors.splitlines()
    assert heading == "Error: The configuration can't be used:"
    assert sorted(line.strip().partition(": ")[0] for line in lines) == [
        "foo",
        "jwt.secret",
        "redis_url",
        "services.rules.colour",
        "services.rules.targets[1]",
    ]
    assert "hunter2" not in errors


def test_errors_of_building_the_application_are_reported_by_any_command(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    code, output, errors = run_flask("routes", environ={"GATEWAY_JWT__PUBLIC_KEY_FILE": str(key)})
    assert (code, output) == (2, "")
    assert "Traceback" not in errors
    assert f"jwt.public_key_file: can't read {str(key)!r}: No such file or directory" in errors


def test_variables_that_are_not_utf8_are_reported(tmp_path: Path) -> None:
    environ = {os.fsdecode(b"GATEWAY_\xff"): "1", "GATEWAY_JWT__ISSUER": os.fsdecode(b"\xff"), "LC_ALL": "C"}
    code, _, errors = run_flask("check", environ=environ)
    assert code == 1
    assert "jwt.issuer: is not UTF-8" in errors
    assert '"\\udcff": is not UTF-8' in errors
    assert "Traceback" not in errors


# `check` reports an invalid configuration as its result (exit code 1). Other commands can't run (exit code 2).
@pytest.mark.parametrize(("words", "expected"), [("check", 1), ("services", 2), ("explain GET /", 2), ("routes", 2)])
def test_exit_codes_with_a_broken_configuration(words: str, expected: int) -> None:
    code, output, errors = run_flask(*words.split(), environ={"GATEWAY_JWT_SECRET": "x"})
    assert (code, output) == (expected, "")
    said = "did you mean GATEWAY_JWT__SECRET? (from GATEWAY_JWT_SECRET)"
    assert errors == f"Error: The configuration can't be used:\n  jwt_secret: there is no such setting; {said}\n"


def test_quota_could_not_run_without_a_reachable_redis() -> None:
    port = free_ports(1)
    code, output, errors = run_flask("quota", "ada", environ={"REDIS_URL": f"redis://127.0.0.1:{port}"})
    assert (code, output) == (2, "")
    assert "\nError: redis_url: fails: " in errors


def test_help_works_with_a_broken_configuration() -> None:
    broken = {"GATEWAY_JWT_SECRET": "x"}
    for words in ((), ("--help",)):
        _, output, errors = run_flask(*words, environ=broken)
        assert "jwt_secret: there is no such setting" in errors + output
        assert re.search(r"^  explain +Show what would happen", output + errors, re.MULTILINE)
    code, output, errors = run_flask("explain", "--help", environ=broken)
    assert (code, "--body-bytes" in output, "Traceback" in errors) == (0, True, False)
    # `config schema` works, because an operator needs the schema to correct a broken file.
    code, output, errors = run_flask("config", "schema", environ=broken)
    assert (code, "jwt_secret: there is no such setting" in errors) == (0, True)
    assert json.loads(output) == json_schema()
    # Other commands don't work: `--help` is the value of `--claim` here.
    code, output, _ = run_flask("token", "--sub", "ada", "--claim", "--help", environ=broken)
    assert (code, output) == (2, "")


@pytest.mark.parametrize("environ", [{}, {"GATEWAY_FOO": "1"}], ids=["valid", "broken"])
def test_commands_of_flask_limiter_are_not_listed(environ: dict[str, str]) -> None:
    code, output, _ = run_flask("--help", environ=environ)
    assert code == 0
    assert "limiter" not in output
    assert "quota" in output
