"""The catalog logs which parts of a document are left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.api_documents.catalog import Catalog
from gateway.api_documents.document_state import DocumentState
from gateway.api_documents.sources import make_sources
from gateway.config import load_settings
from gateway.openapi import GatewayFacts
from gateway.route_policy import policies_of
from tests.support.openapi import document, operation

PATH = "/api/devices/x"


def content(**fields: Any) -> bytes:
    return json.dumps(document({PATH: {"get": operation(**fields)}})).encode()


def test_left_out_parts_are_logged_when_they_change(caplog: pytest.LogCaptureFixture) -> None:
    settings = load_settings({})
    catalog = Catalog(make_sources(settings, list(policies_of(settings))), GatewayFacts(), [])

    def logged_after(raw: bytes | None) -> list[str]:
        caplog.clear()
        catalog.update({"devices": DocumentState(version="1")}, {} if raw is None else {"devices": raw})
        return [record.getMessage() for record in caplog.records]

    pointer = "'/paths/~1api~1devices~1x/get/{}': OpenAPI 3.1 has no such field here"
    text = "parts of the document of devices are left out of the merged document (x-gateway-dropped of "
    text += f"/openapi/devices.json lists them): {pointer}"
    assert logged_after(None) == []
    assert logged_after(content()) == []
    assert logged_after(content(odd=1)) == [text.format("odd")]
    assert logged_after(content(odd=1, summary="another")) == []
    # The service chooses the names of these fields, so they must not break the log line.
    assert logged_after(content(**{"a\nb\u2028": 1})) == [text.format("a\\nb\\u2028")]
    assert logged_after(content(a=1, b=1, c=1, d=1))[0].endswith("; …")
    # While the document is unavailable, nothing is logged.
    assert logged_after(None) == []
    assert logged_after(content()) == ["nothing of the document of devices is left out of the merged document any more"]
