"""`flask config` prints the configuration in force and its sources."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.config.json_schema import json_schema
from tests.support.commands import run_flask
from tests.support.gateway import ROOT, GatewayProcess, clean_environment


def installation(folder: Path) -> Path:
    """Copies the gateway to a folder, where the test can put files beside its wsgi.py."""
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
    code, output, errors = run_flask("config", "--json", environ=without_file | environ, folder=folder, is_whole=True)
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
    code, output, _ = run_flask("config", environ=without_file | environ, folder=folder, is_whole=True)
    rows = [line.split() for line in output.splitlines()]
    assert rows[0] == ["SETTING", "VALUE", "FROM"]
    assert ["ratelimit.default", '"7/minute"', "variable", "GATEWAY_RATELIMIT__DEFAULT"] in rows
    assert ["jwt.leeway_seconds", "5.0", "default"] in rows


def test_config_prints_the_schema_of_the_file() -> None:
    code, output, errors = run_flask("config", "schema")
    assert (code, errors) == (0, "")
    assert json.loads(output) == json_schema()


def test_commands_do_not_read_dotenv_which_the_server_does_not_read(tmp_path: Path) -> None:
    """Flask loads .env if python-dotenv is installed, as it is with the requirements of the tests."""
    folder = installation(tmp_path)
    (folder / ".env").write_text("GATEWAY_JWT__COOKIE=from-dotenv\nGATEWAY_JWT__ISSUER=both\nGATEWAY_NO=1\n")
    (folder / ".flaskenv").write_text("PORT=9\n")
    environ = {"GATEWAY_JWT__ISSUER": "both"}
    code, output, errors = run_flask("config", "--json", environ=environ, folder=folder)
    values = values_of(output)
    assert (code, values["jwt.cookie"][1], values["server.bind"][1]) == (0, "default", "default")
    # This variable is both in .env and in the environment of the process, which takes precedence.
    assert values["jwt.issuer"] == ("both", "variable", "GATEWAY_JWT__ISSUER")
    assert [line for line in errors.splitlines() if ".env" in line] == [
        f"{name} of .env is not used: neither commands nor the server read that file."
        for name in ("GATEWAY_JWT__COOKIE", "GATEWAY_NO", "PORT")
    ]
    # A file that is named on the command line is loaded.
    (folder / "named").write_text("GATEWAY_JWT__COOKIE=from-named\n")
    code, output, _ = run_flask("--env-file", "named", "config", "--json", environ=environ, folder=folder)
    assert values_of(output)["jwt.cookie"] == ("from-named", "variable", "GATEWAY_JWT__COOKIE")


def test_start_logs_the_configuration_file(start_gateway: Callable[..., GatewayProcess], tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[jwt]\nleeway_seconds = 7\n")
    gateway = start_gateway({}, environ={"GATEWAY_CONFIG": str(file)})
    assert f"Configuration: the defaults, {file} and 5 variables of the environment" in gateway.output()
