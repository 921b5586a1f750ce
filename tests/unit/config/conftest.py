"""Fixtures of the tests of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Configured = Callable[[str | bytes], dict[str, str]]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """Writes a TOML file and returns the variable that names it."""

    def write(content: str | bytes) -> dict[str, str]:
        path = tmp_path / "gateway.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return {"GATEWAY_CONFIG": str(path)}

    return write
