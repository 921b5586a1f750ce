"""What the README says is so."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

from gateway.config import Settings, load_settings
from tests.support.gateway import ROOT

README = (ROOT / "README.md").read_text()
TOML_BLOCKS = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)


def test_the_files_to_copy_are_valid(tmp_path: Path) -> None:
    for number, block in enumerate(TOML_BLOCKS):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        assert load_settings({"GATEWAY_CONFIG": str(file)}).services


def test_what_it_calls_a_default_is_one() -> None:
    documented = tomllib.loads(TOML_BLOCKS[0])
    examples = {"redis_url", "jwt.secret", "jwt.algorithms", "cors.origins", "services.devices.limits"}
    examples |= {"services.devices.routes", "ratelimit.plans"}
    defaults = load_settings({}).model_dump(mode="json")

    def check(table: dict[str, Any], default: Any, name: str) -> None:
        for key, value in table.items():
            full = f"{name}.{key}".lstrip(".")
            if isinstance(value, dict) and full not in examples:
                check(value, default[key], full)
            elif full not in examples:
                assert default[key] == value, full

    check(documented, defaults, "")


def test_every_setting_is_told() -> None:
    missing = [name for name in settings_of(Settings) if not re.search(rf"\b{name}\b", README)]
    assert missing == []


def settings_of(model: Any) -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        names.append(name)
        for module, inner in re.findall(r"(gateway\.config\.\w+)\.(\w+)", str(field.annotation)):
            names += settings_of(getattr(import_module(module), inner))
    return names
