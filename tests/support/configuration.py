"""Settings and errors of trees that are written as in the TOML file, and set as variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.config import Settings, load_settings
from gateway.errors import ConfigurationError
from tests.support.gateway import variables

# A valid service, for tests that change one setting.
ORDERS = {"prefix": "/api/orders", "targets": ["http://127.0.0.1:8005"]}


def loaded(tree: Mapping[str, Any], **environ: str) -> Settings:
    return load_settings(variables(tree) | environ)


def errors_of(tree: Mapping[str, Any]) -> list[str]:
    return errors_in(variables(tree))


def errors_in(environ: Mapping[str, str]) -> list[str]:
    """Without proposals and the variables that made them, which `errors_with_help` has."""
    return [re.sub(r"(?<=.)(; did you mean [^ ]+\?)?( \(from .+\))?$", "", line) for line in errors_with_help(environ)]


def errors_with_help(environ: Mapping[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ)
    return caught.value.errors


def devices(**values: Any) -> dict[str, Any]:
    """The tree that sets these values of the built-in service."""
    return {"services": {"devices": values}}


def settings_or_error(environ: Mapping[str, str]) -> Settings | ConfigurationError:
    try:
        return load_settings(environ)
    except ConfigurationError as error:
        return error
