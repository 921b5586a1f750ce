"""Loads settings from trees as in the TOML file, set as environment variables, and collects the errors of invalid
ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.config import Settings, load_settings
from gateway.config.json_schema import json_schema
from gateway.errors import ConfigurationError
from tests.support.gateway import variables

# A valid service, for tests that change one setting.
ORDERS = {"prefix": "/api/orders", "targets": ["http://127.0.0.1:8005"]}


def loaded(tree: Mapping[str, Any], **environ: str) -> Settings:
    """Loads the settings of a valid tree. The JSON schema of the file must accept the tree as well."""
    settings = load_settings(variables(tree) | environ)
    assert list(schema_validator().iter_errors(json.loads(json.dumps(tree)))) == []
    return settings


@cache
def schema_validator() -> Draft202012Validator:
    return Draft202012Validator(json_schema())


def errors_of(tree: Mapping[str, Any]) -> list[str]:
    return errors_in(variables(tree))


def errors_in(environ: Mapping[str, str]) -> list[str]:
    """The errors of an invalid environment, without the suggested names and the names of variables at their ends.
    `errors_with_help` includes those."""
    return [re.sub(r"(?<=.)(; did you mean [^ ]+\?)?( \(from .+\))?$", "", line) for line in errors_with_help(environ)]


def errors_with_help(environ: Mapping[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ)
    return caught.value.errors


def devices(**values: Any) -> dict[str, Any]:
    """A tree that sets these values of the built-in service `devices`."""
    return {"services": {"devices": values}}


def route(path: str, *methods: str) -> dict[str, Any]:
    """A route below the prefix of the built-in service `devices`."""
    return {"path": f"/api/devices/{path}", "methods": list(methods)}


def settings_or_error(environ: Mapping[str, str]) -> Settings | ConfigurationError:
    try:
        return load_settings(environ)
    except ConfigurationError as error:
        return error
