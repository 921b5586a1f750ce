"""What a service's Info Object says of it (OpenAPI 3.1.1 4.8.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.openapi.omissions import NOT_A_FIELD, WRONG_TYPE, Omissions
from gateway.openapi.rebuilding import text_of

NAMES = ("title", "version")
# Beside these.
FIELDS: dict[str, type] = {"summary": str, "description": str, "termsOfService": str, "contact": dict, "license": dict}


def info_of(document: Mapping[str, Any] | None) -> dict[str, Any]:
    info = document.get("info") if document is not None else None
    return info if isinstance(info, dict) else {}


def about(info: Mapping[str, Any]) -> dict[str, Any]:
    """What it says beside the title and the version, its extensions too; not what it says in the gateway's name."""
    usable = {key: usable_value(key, value) for key, value in info.items()}
    return {key: value for key, value in usable.items() if value is not None}


def omit_unusable(info: Mapping[str, Any], omissions: Omissions) -> None:
    for key, value in info.items():
        usable = text_of(value) if key in NAMES else usable_value(key, value)
        if usable is None and value not in (None, ""):
            omissions.add(((None, "info"), key), WRONG_TYPE if key in FIELDS or key in NAMES else NOT_A_FIELD)


def usable_value(key: str, value: Any) -> Any:
    if key.startswith("x-"):
        return None if key.startswith("x-gateway-") else value
    if FIELDS.get(key) is str:
        return text_of(value)
    return value if FIELDS.get(key) is dict and isinstance(value, dict) else None
