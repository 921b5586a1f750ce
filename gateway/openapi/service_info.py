"""Reads the Info Object of a service's document (OpenAPI 3.1.1 4.8.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.openapi.object_copy import text_of
from gateway.openapi.omissions import NOT_A_FIELD, WRONG_TYPE, Omissions

TITLE_AND_VERSION = ("title", "version")
OTHER_FIELDS: dict[str, type] = {
    "summary": str,
    "description": str,
    "termsOfService": str,
    "contact": dict,
    "license": dict,
}


def info_of(document: Mapping[str, Any] | None) -> dict[str, Any]:
    info = document.get("info") if document is not None else None
    return info if isinstance(info, dict) else {}


def info_fields(info: Mapping[str, Any]) -> dict[str, Any]:
    """The valid fields and extensions except title and version. Extensions of the service that begin with `x-gateway-`
    are invalid, because the gateway uses these names itself."""
    valid = {key: valid_value(key, value) for key, value in info.items()}
    return {key: value for key, value in valid.items() if value is not None}


def omit_invalid(info: Mapping[str, Any], omissions: Omissions) -> None:
    for key, value in info.items():
        valid = text_of(value) if key in TITLE_AND_VERSION else valid_value(key, value)
        if valid is None and value not in (None, ""):
            is_known = key in OTHER_FIELDS or key in TITLE_AND_VERSION
            omissions.add(((None, "info"), key), WRONG_TYPE if is_known else NOT_A_FIELD)


def valid_value(key: str, value: Any) -> Any:
    if key.startswith("x-"):
        return None if key.startswith("x-gateway-") else value
    if OTHER_FIELDS.get(key) is str:
        return text_of(value)
    return value if OTHER_FIELDS.get(key) is dict and isinstance(value, dict) else None
