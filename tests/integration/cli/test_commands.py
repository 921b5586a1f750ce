"""The `flask` commands: their output and exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway import create_app
from gateway.config.json_schema import json_schema
from gateway.demo.resources import DEVICES, resource_app
from tests.support import preloaded
from tests.support.configuration import loaded
from tests.support.gateway import ROOT, GatewayProcess, clean_environment, four_services, variables
from tests.support.process_table import is_running
from tests.support.sockets import free_ports
from tests.support.tokens import SECRET
from tests.support.upstream import ScriptedUpstream

LOCAL = "127.0.0.1"


def started(
    *words: str, environ: dict[str, str] | None = None, folder: Path = ROOT, is_whole: bool = False
) -> subprocess.Popen[str]:
    """A `flask` command. Its environment has a secret, or `environ`; nothing else if `is_whole`."""
    own = {"GATEWAY_JWT__SECRET": SECRET} if environ is None else environ
    return subprocess.Popen(
        [sys.executable, "-m", "flask", *words],
        cwd=folder,
        env=own if is_whole else clean_environment() | own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(
    *words: str, environ: dict[str, str] | None = None, folder: Path = ROOT, is_whole: bool = False
) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a `flask` command."""
    if folder == ROOT and not is_whole:
        own = {"GATEWAY_JWT__SECRET": SECRET} if environ is None else environ
        done = preloaded.run(["flask", *words], clean_environment() | own)
        return done.returncode, done.stdout, done.stderr
    process = started(*words, environ=environ, folder=folder, is_whole=is_whole)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


# --- routes, services, check


def test_routes_lists_every_mapping() -> None:
    code, output, errors = run("routes")
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
    code, output, _ = run("routes", environ=variables({"jwt": {"secret": SECRET}, "services": {"orders": orders}}))
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
    code, output, errors = run("services", environ=variables(settings))
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
    expected = "The configuration is valid: 4 services, 7 policies.\n"
    assert run("check") == (0, expected, "")


def test_every_error_of_a_configuration_is_reported_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        '[jwt]\nsecret = "hunter2"\n[services.rules]\ntargets = ["http://h", "ftp://h"]\ncolour = "red"\n'
    )
    environ = {"GATEWAY_CONFIG": str(tmp_path / "gateway.toml"), "GATEWAY_FOO": "1", "REDIS_URL": "redis:hunter2"}
    code, output, errors = run("check", environ=environ)
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
    code, output, errors = run("routes", environ={"GATEWAY_JWT__PUBLIC_KEY_FILE": str(key)})
    assert (code, output) == (2, "")
    assert "Traceback" not in errors
    assert f"jwt.public_key_file: can't read {str(key)!r}: No such file or directory" in errors


def test_variables_that_are_not_utf8_are_reported(tmp_path: Path) -> None:
    environ = {os.fsdecode(b"GATEWAY_\xff"): "1", "GATEWAY_JWT__ISSUER": os.fsdecode(b"\xff"), "LC_ALL": "C"}
    code, _, errors = run("check", environ=environ)
    assert code == 1
    assert "jwt.issuer: is not UTF-8" in errors
    assert '"\\udcff": is not UTF-8' in errors
    assert "Traceback" not in errors


# An invalid configuration is a result of `check` (1); other commands can't run (2).
@pytest.mark.parametrize(("words", "expected"), [("check", 1), ("services", 2), ("explain GET /", 2), ("routes", 2)])
def test_exit_codes_with_a_broken_configuration(words: str, expected: int) -> None:
    code, output, errors = run(*words.split(), environ={"GATEWAY_JWT_SECRET": "x"})
    assert (code, output) == (expected, "")
    said = "did you mean GATEWAY_JWT__SECRET? (from GATEWAY_JWT_SECRET)"
    assert errors == f"Error: The configuration can't be used:\n  jwt_secret: there is no such setting; {said}\n"


def test_quota_could_not_run_without_a_reachable_redis() -> None:
    port = free_ports(1)
    code, output, errors = run("quota", "ada", environ={"REDIS_URL": f"redis://127.0.0.1:{port}"})
    assert (code, output) == (2, "")
    assert "\nError: redis_url: fails: " in errors


def test_help_works_with_a_broken_configuration() -> None:
    broken = {"GATEWAY_JWT_SECRET": "x"}
    for words in ((), ("--help",)):
        _, output, errors = run(*words, environ=broken)
        assert "jwt_secret: there is no such setting" in errors + output
        assert re.search(r"^  explain +Show what would happen", output + errors, re.MULTILINE)
    code, output, errors = run("explain", "--help", environ=broken)
    assert (code, "--body-bytes" in output, "Traceback" in errors) == (0, True, False)
    # A broken file is corrected with the help of its schema.
    code, output, errors = run("config", "schema", environ=broken)
    assert (code, "jwt_secret: there is no such setting" in errors) == (0, True)
    assert json.loads(output) == json_schema()
    # Nothing else works.
    code, output, _ = run("token", "--sub", "ada", "--claim", "--help", environ=broken)
    assert (code, output) == (2, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full, which is always full")
@pytest.mark.parametrize("words", ["check", "services", "routes", "config", "explain GET /healthz", "--help"])
def test_full_standard_output_ends_a_command_quietly(words: str) -> None:
    environ = clean_environment() | {"GATEWAY_JWT__SECRET": SECRET}
    with open("/dev/full", "w") as full:
        done = preloaded.run(["flask", *words.split()], environ, full)
    said = "Error: standard output can't be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.parametrize("words", ["config", "routes"])
def test_closed_pipe_ends_a_command_quietly(words: str) -> None:
    process = started(words)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(60)) == ("", 2)
    process.stderr.close()


# --- config


def installation(folder: Path) -> Path:
    """A copy of the gateway, for files beside its wsgi.py."""
    copy = folder / "installation"
    shutil.copytree(ROOT / "gateway", copy / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "wsgi.py", copy)
    return copy


def values_of(output: str) -> dict[str, tuple[Any, str, str | None]]:
    return {one["name"]: (one["value"], one["from"], one["source"]) for one in json.loads(output)["settings"]}


def test_config_prints_each_value_and_its_source(tmp_path: Path) -> None:
    folder = installation(tmp_path)
    (folder / "gateway.toml").write_text(
        '[jwt]\ncookie = "c"\n[services.devices]\ntargets = ["http://10.0.0.7:1"]\n[ratelimit]\ndefault = "5/minute"\n'
    )
    environ = {"GATEWAY_RATELIMIT__DEFAULT": "7/minute", "REDIS_URL": "redis://:hunter2@h/0?password=hunter2"}
    without_file = {name: value for name, value in clean_environment().items() if name != "GATEWAY_CONFIG"}
    code, output, errors = run("config", "--json", environ=without_file | environ, folder=folder, is_whole=True)
    assert (code, "hunter2" in output + errors) == (0, False)
    values = values_of(output)
    file = str(folder / "gateway.toml")
    assert json.loads(output)["file"] == file
    assert values["jwt.cookie"] == ("c", "file", file)
    assert values["services.devices.targets"] == (["http://10.0.0.7:1"], "file", file)
    assert values["services.rules.targets"] == (["http://127.0.0.1:8003"], "built-in service", None)
    assert values["services.auth.routes[0].path"] == ("/api/auth/login", "built-in service", None)
    assert values["ratelimit.default"] == ("7/minute", "variable", "GATEWAY_RATELIMIT__DEFAULT")
    assert values["redis_url"] == ("redis://**********@h/0?**********", "variable", "REDIS_URL")
    assert values["jwt.secret"] == ("**********", "generated", str(folder / "instance" / "jwt-secret"))
    assert values["jwt.leeway_seconds"] == (5.0, "default", None)
    code, output, _ = run("config", environ=without_file | environ, folder=folder, is_whole=True)
    rows = [line.split() for line in output.splitlines()]
    assert rows[0] == ["SETTING", "VALUE", "FROM"]
    assert ["ratelimit.default", '"7/minute"', "variable", "GATEWAY_RATELIMIT__DEFAULT"] in rows
    assert ["jwt.leeway_seconds", "5.0", "default"] in rows


def test_config_prints_the_schema_of_the_file() -> None:
    code, output, errors = run("config", "schema")
    assert (code, errors) == (0, "")
    assert json.loads(output) == json_schema()


def test_commands_do_not_read_dotenv_which_the_server_does_not_read(tmp_path: Path) -> None:
    """Flask loads .env if python-dotenv is installed, as it is with the requirements of the tests."""
    folder = installation(tmp_path)
    (folder / ".env").write_text("GATEWAY_JWT__COOKIE=from-dotenv\nGATEWAY_JWT__ISSUER=both\nGATEWAY_NO=1\n")
    (folder / ".flaskenv").write_text("PORT=9\n")
    environ = {"GATEWAY_JWT__ISSUER": "both"}
    code, output, errors = run("config", "--json", environ=environ, folder=folder)
    values = values_of(output)
    assert (code, values["jwt.cookie"][1], values["server.bind"][1]) == (0, "default", "default")
    # In .env and in the environment of the process.
    assert values["jwt.issuer"] == ("both", "variable", "GATEWAY_JWT__ISSUER")
    assert [line for line in errors.splitlines() if ".env" in line] == [
        f"{name} of .env is not used: neither commands nor the server read that file."
        for name in ("GATEWAY_JWT__COOKIE", "GATEWAY_NO", "PORT")
    ]
    # A file on the command line is loaded.
    (folder / "named").write_text("GATEWAY_JWT__COOKIE=from-named\n")
    code, output, _ = run("--env-file", "named", "config", "--json", environ=environ, folder=folder)
    assert values_of(output)["jwt.cookie"] == ("from-named", "variable", "GATEWAY_JWT__COOKIE")


def test_start_logs_the_configuration_file(start_gateway: Callable[..., GatewayProcess], tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[jwt]\nleeway_seconds = 7\n")
    gateway = start_gateway({}, environ={"GATEWAY_CONFIG": str(file)})
    assert f"Configuration: the defaults, {file} and 5 variables of the environment" in gateway.output()


# --- token


def test_gateway_accepts_the_token(
    start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream
) -> None:
    jwt_settings = {
        "secret": SECRET * 2,
        "issuer": "https://id.example",
        "audience": ["gateway", "else"],
        "algorithms": ["HS512", "HS256"],
        "required_claims": ["exp", "sub", "user_id"],
    }
    settings = {**four_services(module_upstream.url), "jwt": jwt_settings}
    settings["services"]["devices"]["scopes"] = ["devices:read"]
    gateway = start_gateway(settings, workers=1)
    claims = ("--claim", "user_id=42", "--claim", "scope=devices:read devices:write")
    code, output, errors = run("token", "--sub", "zoë@example.com", *claims, environ=variables(settings))
    assert (code, errors) == (0, "")
    module_upstream.reset()
    reply = gateway.get("/api/devices", ("Authorization", f"Bearer {output.strip()}"))
    assert reply.status == 200
    assert module_upstream.only.values("x-user-subject") == ["zo%C3%AB@example.com"]
    assert module_upstream.only.values("x-user-id") == ["42"]
    # A missing required claim is reported by the command, not by a 401 later.
    code, output, errors = run("token", "--sub", "x", environ=variables(settings))
    assert (code, output) == (2, "")
    assert "jwt.required_claims also has user_id: give --claim NAME=VALUE" in errors


def token_output(*words: str, **jwt_settings: object) -> tuple[int, str]:
    """The exit code and all output of `flask token`, which runs in this process."""
    app = create_app(loaded({"jwt": {"secret": SECRET, **jwt_settings}}))
    result = app.test_cli_runner().invoke(args=["token", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def claims_of(*words: str, **jwt_settings: object) -> dict[str, object]:
    code, output = token_output("--sub", "ada", *words, **jwt_settings)
    assert code == 0
    claims: dict[str, object] = jwt.decode(output.strip(), SECRET, ["HS256"], options={"verify_aud": False})
    return claims


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h", 3600), ("7d", 604800), ("3650d", 315360000)]
)
def test_lifetime_of_a_token(text: str, seconds: int) -> None:
    claims = claims_of("--expires", text)
    assert isinstance(claims["exp"], int)
    assert isinstance(claims["iat"], int)
    assert claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "0s", "-5m", "1.5h", "1w", "h", "1h30m", "99999d", "٣d", "1 h", "9" * 5000 + "s"]
)
def test_invalid_durations_are_refused(text: str) -> None:
    code, output = token_output("--sub", "ada", f"--expires={text}")
    assert code == 2
    assert f"Invalid value for '--expires': {text!r} is not a duration such as 90s, 5m, 1h or 7d" in output


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("user_id=42", 42),
        ("user_id=alice", "alice"),
        ("user_id=", ""),
        ("user_id=a=b", "a=b"),
        ("user_id=true", True),
        ('user_id="42"', "42"),
        ('user_id=["a", {"b": null}]', ["a", {"b": None}]),
        ("user_id=[a", "[a"),
        # Python parses these as JSON, but other libraries do not.
        ("user_id=NaN", "NaN"),
        ("user_id=-Infinity", "-Infinity"),
        ("user_id=1e999", "1e999"),
        ("user_id=" + "[" * 3000, "[" * 3000),
    ],
)
def test_claims_are_json_or_plain_text(text: str, value: object) -> None:
    assert claims_of("--claim", text)["user_id"] == value


def test_issuer_and_audience_are_the_configured_ones() -> None:
    claims = claims_of(issuer="https://id.example", audience="gateway")
    assert (claims["sub"], claims["iss"], claims["aud"]) == ("ada", "https://id.example", "gateway")
    assert claims_of(audience=["one", "two"])["aud"] == ["one", "two"]
    assert claims_of("--claim", "aud=one", audience=["one", "two"])["aud"] == "one"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sub", "ada", "--claim", "user_id"], "'--claim': must be NAME=VALUE, got 'user_id'"),
        (["--sub", "ada", "--claim", "=42"], "'--claim': must be NAME=VALUE, got '=42'"),
        (["--sub", "ada", "--claim", ""], "'--claim': must be NAME=VALUE, got ''"),
        (["--sub", "ada", "--claim", "iss=5"], "'--claim': Issuer (iss) must be a string."),
        (["--sub", ""], "'--sub': must not be empty"),
        ([], "Missing option '--sub'"),
        (["--sub", "ada", "extra"], "Got unexpected extra argument (extra)"),
    ],
)
def test_invalid_arguments_of_token_are_refused(words: list[str], said: str) -> None:
    code, output = token_output(*words)
    assert code == 2
    assert said in output


@pytest.mark.parametrize(
    ("words", "jwt_settings", "why"),
    [
        (["--claim", "exp=1"], {}, "the token has expired"),
        (["--claim", "exp=soon"], {}, "the token's exp is not a number"),
        (["--claim", "nbf=9999999999"], {}, "the token is not valid yet"),
        (["--claim", "aud=x"], {}, "the token is meant for someone else"),
        (["--claim", "iss=x"], {"issuer": "y"}, "the token's issuer is not accepted"),
        (["--claim", "sub="], {}, "the token's sub is empty"),
        (["--claim", "jti=1"], {}, "the token can't be read"),
        (["--expires", "2h"], {"max_lifetime_seconds": 3600}, "the token is valid for too long"),
        (["--claim", "x=" + "y" * 8192], {}, "the token is longer than 8192 bytes"),
    ],
)
def test_token_that_the_gateway_would_refuse_is_not_printed(
    words: list[str], jwt_settings: dict[str, object], why: str
) -> None:
    assert token_output("--sub", "ada", *words, **jwt_settings) == (
        1,
        f"Error: the gateway would refuse this token: {why}\n",
    )


def test_token_has_an_id_and_the_configured_type() -> None:
    first, second = claims_of(), claims_of()
    assert isinstance(first["jti"], str)
    assert first["jti"] != second["jti"]
    code, output = token_output(
        "--sub", "ada", token_type="application/at+jwt", algorithms=["HS384"], secret=SECRET * 2
    )
    assert code == 0
    header = jwt.get_unverified_header(output.strip())
    assert (header["typ"], header["alg"]) == ("application/at+jwt", "HS384")


def test_only_issuers_with_a_secret_sign() -> None:
    issuers = [
        {"issuer": "https://one.test", "secret": SECRET, "audience": "gateway"},
        {"issuer": "https://two.test", "jwks_url": "http://127.0.0.1:1/keys"},
    ]
    third = {"issuer": "https://three.test", "secret": SECRET[::-1]}

    def output(*words: str, several: list[dict[str, str]]) -> tuple[int, str]:
        result = create_app(loaded({"jwt": {"issuers": several}})).test_cli_runner()
        found = result.invoke(args=["token", "--sub", "ada", *words])
        return found.exit_code, found.output

    code, made = output(several=issuers)
    claims = jwt.decode(made.strip(), SECRET, ["HS256"], audience="gateway")
    assert (code, claims["iss"]) == (0, "https://one.test")
    code, made = output("--issuer", "https://three.test", several=[*issuers, third])
    assert (code, jwt.decode(made.strip(), SECRET[::-1], ["HS256"])["iss"]) == (0, "https://three.test")
    for words, several, ends, said in [
        ((), [*issuers, third], 2, "several issuers are configured, give --issuer: https://one.test, "),
        (("--issuer", "x"), issuers, 2, "there is no issuer 'x'"),
        (("--issuer", "https://two.test"), issuers, 1, "tokens of https://two.test are verified with its jwks_url"),
        ((), issuers[1:], 1, "tokens are verified with jwt.jwks_url: only their issuer can sign them"),
    ]:
        code, printed = output(*words, several=several)
        assert code == ends
        assert said in printed


def test_commands_of_flask_limiter_are_not_listed() -> None:
    code, output, _ = run("--help")
    assert code == 0
    assert "limiter" not in output
    assert "quota" in output


def test_token_can_not_be_signed_with_a_public_key(tmp_path: Path) -> None:
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "key.pem").write_bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    app = create_app(loaded({"jwt": {"public_key_file": str(tmp_path / "key.pem")}}))
    said = {("token --sub ada", 1): "only their issuer can sign them", ("demo", 2): "jwt.secret is not set"}
    for (command, code), text in said.items():
        result = app.test_cli_runner().invoke(args=command.split())
        assert result.exit_code == code
        assert text in result.output


def test_generated_secret_signs_and_a_warning_names_the_setting(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "gateway", tmp_path / "gateway")
    shutil.copy(ROOT / "wsgi.py", tmp_path)
    code, output, errors = run("token", "--sub", "ada", environ={}, folder=tmp_path)
    secret = (tmp_path / "instance" / "jwt-secret").read_text()
    assert (code, jwt.decode(output.strip(), secret, ["HS256"])["sub"]) == (0, "ada")
    assert errors.startswith(
        f"jwt.secret is not set: tokens are verified with the secret generated in {tmp_path}/instance"
    )
    assert secret not in errors


# --- demo


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | descendants(child)
    return found


@contextmanager
def demo(port: int, first: int) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`flask demo`, and the lines that it has printed when it is ready."""
    process = started("demo", "--port", str(port), "--services-from", str(first))
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.startswith("Ctrl-C stops everything"):
                    break
            else:
                raise AssertionError(f"the demo did not start: {process.stderr.read()}")
            yield process, lines
        finally:
            process.kill()
            process.wait()


def answers_to(lines: list[str]) -> list[tuple[str, str]]:
    """The output of each printed command in a shell, and the output that the demo printed for it."""
    commands = [line for line in lines if line.startswith("curl ")]
    said = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    (login,) = [line for line in lines if line.startswith("TOKEN=")]
    script = "\n".join([login, *(f"{command}; echo; echo @@@" for command in commands)])
    shell = subprocess.run(
        ["bash", "-c", script],  # noqa: S607 - as a user would
        env=clean_environment() | {"no_proxy": "*"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return list(zip((one.strip() for one in shell.stdout.split("@@@")[:-1]), said, strict=True))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the lines to paste call curl")
def test_demo_prints_what_its_commands_print_and_leaves_nothing_behind() -> None:
    first = free_ports(5)
    port = first + 4
    with demo(port, first) as (process, lines):
        answers = answers_to(lines)
        assert len(answers) == 5
        for printed, said in answers:
            assert printed == said
        (folder,) = re.findall(r"their logs are in (\S+)\.$", "\n".join(lines), re.MULTILINE)
        logs = {path.name for path in Path(folder).iterdir()}
        assert logs == {"auth.log", "livestreams.log", "rules.log", "devices.log", "gateway.log"}
        children = descendants(process.pid)
        # Four services, gunicorn with its workers and its Redis.
        assert len(children) >= 8

        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert [pid for pid in children if is_running(pid)] == []
        assert not Path(folder).exists()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    with ExitStack() as stack:
        for number in range(first, first + 5):
            stack.enter_context(socket.create_server((LOCAL, number)))


def refused_demo(*words: str) -> str:
    """The output of `flask demo`, which runs in this process and ends at once."""
    result = create_app(loaded({"jwt": {"secret": SECRET}})).test_cli_runner().invoke(args=["demo", *words])
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code != 0
    return result.output


def test_demo_names_the_port_that_is_in_use() -> None:
    first = free_ports(5)
    words = ("--port", str(first + 4), "--services-from", str(first))
    for taken in (first, first + 3, first + 4):
        with socket.create_server((LOCAL, taken)):
            said = f"Error: port {taken} is in use: choose others with --port and --services-from\n"
            assert refused_demo(*words) == said
    with socket.create_server((LOCAL, first + 4)):
        assert run("demo", *words) == (2, "", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "0"], "Invalid value for '--port': 0 is not in the range 1<=x<=65535."),
        (["--port", "65536"], "Invalid value for '--port': 65536 is not in the range 1<=x<=65535."),
        (["--port", "http"], "Invalid value for '--port': 'http' is not a valid integer"),
        (["--services-from", "65533"], "Invalid value for '--services-from': 65533 is not in the range 1<=x<=65532."),
        (["--port", "9003", "--services-from", "9000"], "port 9003 can't be both the gateway's and a service's"),
    ],
)
def test_invalid_ports_of_the_demo_are_refused(words: list[str], said: str) -> None:
    assert said in refused_demo(*words)


def test_sample_services_respond_the_same_with_flask_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    answer = resource_app(DEVICES).test_client().get("/api/devices")
    assert answer.text == json.dumps(DEVICES.examples, separators=(",", ":")) + "\n"
