"""The tables of docs/configuration.md are current, and complete."""

from __future__ import annotations

import re

import pytest

from gateway.config import load_settings
from gateway.config.json_schema import json_schema
from gateway.config.reference import PAGE, form, plural, updated
from gateway.errors import ConfigurationError
from tests.unit.config.conftest import Configured


def test_the_page_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert updated(page) == page, "run `python -m gateway.config.reference`"


def test_the_page_has_each_table_once_and_each_setting_a_description() -> None:
    schema = json_schema()
    page = PAGE.read_text(encoding="utf-8")
    assert sorted(re.findall(r"<!-- begin (\w+) -->", page)) == sorted(["Settings", *schema["$defs"]])
    for model in (schema, *schema["$defs"].values()):
        for name, setting in model["properties"].items():
            # Settings that refer to a table have no description, because the table has one.
            assert "description" in setting or "$ref" in setting or name == "services", name


def test_the_shown_errors_are_those_of_the_gateway(configured: Configured) -> None:
    environ = configured('[jwt]\nsecert = "x"\n[services.rules]\ntargets = ["http://h", "ftp://h"]\n')
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ | {"WEB_CONCURRENCY": "many"})
    shown = f"```\nError: {caught.value.listing()}\n```\n"
    assert shown in PAGE.read_text(encoding="utf-8")


def test_a_table_shows_names_forms_defaults_and_descriptions() -> None:
    before = "## One\n\n<!-- begin AdminSettings -->\nold\n<!-- end AdminSettings -->\n\n## Two\n"
    allow = "Client addresses and networks; all others get 404."
    assert updated(before) == (
        "## One\n\n<!-- begin AdminSettings -->\nWho may read `/metrics` and `/status`.\n\n"
        "| setting | form | default | description |\n| --- | --- | --- | --- |\n"
        f'| `allow` | list of networks | `["127.0.0.0/8", "::1"]` | {allow} |\n\n'
        "<!-- end AdminSettings -->\n\n## Two\n"
    )


def test_forms() -> None:
    service = json_schema()["$defs"]["ServiceSettings"]["properties"]
    names = ("auth", "max_body_bytes", "weights", "plans", "routes", "read_timeout_seconds", "strip_prefix")
    assert [form(service[name]) for name in names] == [
        r'`"required"` \| `"none"`',
        "integer from 0, or size",
        "list of integers from 0 to 10000",
        "table of lists of limits",
        "list of tables",
        "number over 0, up to 86400",
        "boolean",
    ]
    assert plural("address") == "addresses"
