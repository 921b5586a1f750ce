"""Where in an OpenAPI document which kind of object stands (OpenAPI 3.1.1 4.8; JSON Schema 2020-12 for schemas).

Walking by this table, a property that is named "$ref" or "example" is a property, and an example value that looks like
a reference stays a value.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

# The sections of the Components Object, by the kind of object that they hold.
SECTIONS: Final = {
    "schema": "schemas",
    "response": "responses",
    "parameter": "parameters",
    "example": "examples",
    "request_body": "requestBodies",
    "header": "headers",
    "security_scheme": "securitySchemes",
    "link": "links",
    "callback": "callbacks",
    "path_item": "pathItems",
}


class Shape(Enum):
    """How many of a kind a field holds."""

    ONE = 1
    LIST = 2
    MAP = 3
    # A map whose keys with x- are extensions, as in the Responses Object; in others they are names like any.
    EXTENSIBLE_MAP = 4


ONE, LIST, MAP, EXTENSIBLE_MAP = Shape
Fields = dict[str, tuple[Shape, str]]

PARAMETER: Fields = {"schema": (ONE, "schema"), "content": (MAP, "media_type"), "examples": (MAP, "example")}
FIELDS: Final[dict[str, Fields]] = {
    "path_item": {**dict.fromkeys(METHODS, (ONE, "operation")), "parameters": (LIST, "parameter")},
    "operation": {
        "parameters": (LIST, "parameter"),
        "requestBody": (ONE, "request_body"),
        "responses": (EXTENSIBLE_MAP, "response"),
        "callbacks": (MAP, "callback"),
    },
    "parameter": PARAMETER,
    "header": PARAMETER,
    "request_body": {"content": (MAP, "media_type")},
    "media_type": {"schema": (ONE, "schema"), "examples": (MAP, "example"), "encoding": (MAP, "encoding")},
    "encoding": {"headers": (MAP, "header")},
    "response": {"headers": (MAP, "header"), "content": (MAP, "media_type"), "links": (MAP, "link")},
    "schema": {
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), (LIST, "schema")),
        # `definitions` was the name of $defs in older drafts; generators still write it.
        **dict.fromkeys(
            ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"), (MAP, "schema")
        ),
        **dict.fromkeys(
            (
                "additionalProperties",
                "contains",
                "contentSchema",
                "else",
                "if",
                "items",
                "not",
                "propertyNames",
                "then",
                "unevaluatedItems",
                "unevaluatedProperties",
            ),
            (ONE, "schema"),
        ),
    },
    "example": {},
    "link": {},
    "security_scheme": {},
}
# The fields that hold none of the kinds, with their types. Schemas may have any others too.
DESCRIBED: Final[dict[str, type]] = {"description": str}
SERIALIZED: Final[dict[str, type]] = {"style": str, "explode": bool, "allowReserved": bool}
HEADER: Final = {**DESCRIBED, **SERIALIZED, "required": bool, "deprecated": bool, "example": object}
PLAIN_FIELDS: Final[dict[str, dict[str, type]]] = {
    "path_item": {**DESCRIBED, "summary": str, "servers": list},
    "operation": {
        **DESCRIBED,
        "tags": list,
        "summary": str,
        "externalDocs": dict,
        "operationId": str,
        "deprecated": bool,
        "security": list,
        "servers": list,
    },
    "parameter": {**HEADER, "name": str, "in": str, "allowEmptyValue": bool},
    "header": HEADER,
    "request_body": {**DESCRIBED, "required": bool},
    "media_type": {"example": object},
    "encoding": {**SERIALIZED, "contentType": str},
    "response": DESCRIBED,
    "example": {**DESCRIBED, "summary": str, "value": object, "externalValue": str},
    "link": {
        **DESCRIBED,
        "operationRef": str,
        "operationId": str,
        "parameters": dict,
        "requestBody": object,
        "server": dict,
    },
    "security_scheme": {
        **DESCRIBED,
        "type": str,
        "name": str,
        "in": str,
        "scheme": str,
        "bearerFormat": str,
        "flows": dict,
        "openIdConnectUrl": str,
    },
}
PLAIN_KEYWORDS: Final[dict[str, type]] = {**DESCRIBED, "title": str, "deprecated": bool, "externalDocs": dict}
# In these null is a value like any other.
LITERAL_KEYWORDS: Final = frozenset(["const", "default", "enum", "example", "examples"])


class Dropped(Enum):
    """What a visit returns for a part that is to be left out."""

    DROPPED = 0


DROPPED: Final = Dropped.DROPPED
Visit = Callable[[str, Any], Any]


def rebuilt(kind: str, node: dict[str, Any], visit: Visit) -> dict[str, Any]:
    """A copy of the object, in which each part that the specification names is what `visit(kind, part)` returns. What
    it does not name, or gives another type, is left out, as is null; only schemas keep keywords of their own. All else
    is the same value, not a copy."""
    if kind == "callback":
        # All its other keys are expressions that stand for addresses.
        if isinstance(node.get("$ref"), str):
            return dict(node)
        return mapped_items(node, "path_item", visit, is_extensible=True)
    fields, copy = FIELDS[kind], {}
    for key, value in node.items():
        field = fields.get(key)
        if field is None:
            if is_plain(kind, key, value):
                copy[key] = value
            continue
        shape, inner = field
        part: Any
        if shape is ONE:
            part = visit(inner, value)
        elif shape is LIST:
            part = listed(value, inner, visit)
        else:
            part = mapped(value, inner, visit, is_extensible=shape is EXTENSIBLE_MAP)
        if part is not DROPPED:
            copy[key] = part
    return copy


def is_plain(kind: str, key: str, value: Any) -> bool:
    """Whether the field, which holds none of the kinds, may stand in an object of this kind with this value."""
    if key.startswith("x-"):
        return True
    if kind == "schema":
        if key in PLAIN_KEYWORDS:
            return isinstance(value, PLAIN_KEYWORDS[key])
        return value is not None or key in LITERAL_KEYWORDS
    # A reference, in place of the object.
    if key == "$ref":
        return isinstance(value, str) and kind in SECTIONS
    fields = PLAIN_FIELDS[kind]
    return key in fields and isinstance(value, fields[key])


def listed(value: Any, kind: str, visit: Visit) -> Any:
    if not isinstance(value, list):
        return DROPPED
    return [part for part in (visit(kind, item) for item in value) if part is not DROPPED]


def mapped(value: Any, kind: str, visit: Visit, *, is_extensible: bool) -> Any:
    if not isinstance(value, dict):
        return DROPPED
    return mapped_items(value, kind, visit, is_extensible=is_extensible)


def mapped_items(value: dict[str, Any], kind: str, visit: Visit, *, is_extensible: bool) -> dict[str, Any]:
    copy = {}
    for key, item in value.items():
        part = item if is_extensible and key.startswith("x-") else visit(kind, item)
        if part is not DROPPED:
            copy[key] = part
    return copy
