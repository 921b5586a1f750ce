"""The sources of settings: the TOML file, and its precedence relative to the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load_settings
from gateway.config.load import Loaded, validated
from gateway.config.sources import merged_sources
from gateway.errors import ConfigurationError
from tests.support.configuration import (
    errors_in,
)
from tests.unit.config.conftest import Configured


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
    errors = [*errors_in({"GATEWAY_CONFIG": missing}), *errors_in({"GATEWAY_CONFIG": folder})]
    assert errors == [
        f"GATEWAY_CONFIG: can't read {missing!r}: No such file or directory",
        f"GATEWAY_CONFIG: can't read {folder!r}: Is a directory",
    ]


def test_an_empty_variable_for_the_file() -> None:
    (error,) = errors_in({"GATEWAY_CONFIG": ""})
    assert error.startswith("GATEWAY_CONFIG: is empty; name a file")


def loaded_from(folder: Path, environ: dict[str, str]) -> Loaded:
    return validated(merged_sources(environ, folder))


def test_gateway_toml_in_the_folder_is_read_if_no_variable_names_a_file(tmp_path: Path) -> None:
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
