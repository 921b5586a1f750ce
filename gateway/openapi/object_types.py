"""Lists what kind of object each field of an OpenAPI object holds (OpenAPI 3.1.1 4.8; for schemas JSON Schema 2020-12).

With this table, a property whose name is "$ref" or "example" is not mistaken for that keyword, and an example that
looks like a reference is not mistaken for one.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

# The sections of the Components Object by the kind of object that they contain.
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
    """How a field contains objects of a kind."""

    ONE = 1
    LIST = 2
    MAP = 3
    # The Responses Object: keys that begin with x- are extensions, all others statuses. In a MAP, all keys are names.
    STATUSES = 4
    ONE_OR_LIST = 5
    # JSON Schema's `dependencies`: each value is either an object of the kind or a list of texts.
    MAP_OR_TEXTS = 6


ONE, LIST, MAP, STATUSES, ONE_OR_LIST, MAP_OR_TEXTS = Shape
Fields = dict[str, tuple[Shape, str]]

# `itemSchema` and the encodings of items belong to OpenAPI 3.2 (4.14, 4.15), but FastAPI writes `itemSchema` into 3.1.
ENCODINGS: Fields = {
    "encoding": (MAP, "encoding"),
    "prefixEncoding": (LIST, "encoding"),
    "itemEncoding": (ONE, "encoding"),
}
PARAMETER: Fields = {"schema": (ONE, "schema"), "content": (MAP, "media_type"), "examples": (MAP, "example")}
FIELDS: Final[dict[str, Fields]] = {
    "path_item": {**dict.fromkeys(METHODS, (ONE, "operation")), "parameters": (LIST, "parameter")},
    "operation": {
        "parameters": (LIST, "parameter"),
        "requestBody": (ONE, "request_body"),
        "responses": (STATUSES, "response"),
        "callbacks": (MAP, "callback"),
    },
    "parameter": PARAMETER,
    "header": PARAMETER,
    "request_body": {"content": (MAP, "media_type")},
    "media_type": {"schema": (ONE, "schema"), "itemSchema": (ONE, "schema"), "examples": (MAP, "example"), **ENCODINGS},
    "encoding": {"headers": (MAP, "header"), **ENCODINGS},
    "response": {"headers": (MAP, "header"), "content": (MAP, "media_type"), "links": (MAP, "link")},
    "schema": {
        **dict.fromkeys("allOf anyOf oneOf prefixItems".split(), (LIST, "schema")),
        # `definitions` is the name of $defs in older drafts, which generators still write.
        **dict.fromkeys("properties patternProperties dependentSchemas $defs definitions".split(), (MAP, "schema")),
        # A list as `items`, and `dependencies`, are of older drafts; `upgrade_to_3_1.to_2020_12` replaces them.
        "items": (ONE_OR_LIST, "schema"),
        "dependencies": (MAP_OR_TEXTS, "schema"),
        **dict.fromkeys(
            "additionalItems additionalProperties contains contentSchema else if not propertyNames then "
            "unevaluatedItems unevaluatedProperties".split(),
            (ONE, "schema"),
        ),
    },
    "example": {},
    "link": {},
    "security_scheme": {},
}


def types(texts: str = "", flags: str = "", lists: str = "", objects: str = "", values: str = "") -> dict[str, type]:
    """Maps the names of fields, which are separated by spaces, to their types; `values` are fields of any type."""
    named = {str: texts, bool: flags, list: lists, dict: objects, object: values}
    return {name: of for of, names in named.items() for name in names.split()}


# The fields that contain no objects, with their types. Schemas may also have any unknown keywords.
SERIALIZED: Final = types(texts="style", flags="explode allowReserved")
HEADER: Final = SERIALIZED | types(texts="description", flags="required deprecated", values="example")
PLAIN_FIELDS: Final[dict[str, dict[str, type]]] = {
    "path_item": types(texts="description summary", lists="servers"),
    "operation": types(
        texts="description summary operationId",
        flags="deprecated",
        lists="tags security servers",
        objects="externalDocs",
    ),
    "parameter": HEADER | types(texts="name in", flags="allowEmptyValue"),
    "header": HEADER,
    "request_body": types(texts="description", flags="required"),
    "media_type": types(values="example"),
    "encoding": SERIALIZED | types(texts="contentType"),
    "response": types(texts="description summary"),
    "example": types(texts="description summary serializedValue externalValue", values="value dataValue"),
    "link": types(texts="description operationRef operationId", objects="parameters server", values="requestBody"),
    "security_scheme": types(texts="description type name in scheme bearerFormat openIdConnectUrl", objects="flows"),
}
PLAIN_KEYWORDS: Final = types(texts="description title", flags="deprecated", objects="externalDocs")
# Keywords whose values may be null.
LITERAL_KEYWORDS: Final = frozenset(["const", "default", "enum", "example", "examples"])

# Keywords whose values contain neither schemas nor references.
VALUE_KEYWORDS: Final = LITERAL_KEYWORDS | frozenset(
    "required type dependentRequired externalDocs xml $vocabulary discriminator".split()
)
# The kind of the value of an unknown keyword in a schema, such as Adyen's `x-anyOf`.
UNKNOWN: Final = "unknown"
STATUS: Final = re.compile(r"[1-5](?:[0-9]{2}|XX)|default")  # OpenAPI 3.1.1 4.8.16
