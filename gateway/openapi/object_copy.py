"""Copies the objects of a document. Fields that are not in the tables of `object_types` are left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, Final

from gateway.openapi.object_types import (
    FIELDS,
    LITERAL_KEYWORDS,
    PLAIN_FIELDS,
    PLAIN_KEYWORDS,
    SECTIONS,
    STATUS,
    UNKNOWN,
    VALUE_KEYWORDS,
    Shape,
)
from gateway.openapi.omissions import NOT_A_FIELD, WRONG_TYPE, Location, Omissions


class Dropped(Enum):
    """Returned by a visit in place of a part that is to be left out."""

    DROPPED = 0


CONTAINERS: Final = (dict, list)
DROPPED: Final = Dropped.DROPPED
Visit = Callable[[str, Any, Location], Any]


class ObjectCopier:
    """Copies objects. In the copy, each part of a known kind is what `visit(kind, part, location)` returns. Fields that
    the specification does not have, and values of a wrong type, are left out and added to `omissions`; null is left out
    without an entry. Schemas keep unknown keywords, whose values are visited as UNKNOWN. All other values are shared,
    not copied."""

    def __init__(self, visit: Visit, omissions: Omissions) -> None:
        self._visit = visit
        self._omissions = omissions

    def copied(self, kind: str, node: dict[str, Any], location: Location) -> dict[str, Any]:
        """The copy of an object of this kind at this location."""
        if kind == "callback":
            # Apart from $ref and extensions, the keys of a Callback Object are expressions that name URLs.
            return dict(node) if isinstance(node.get("$ref"), str) else self._callback(node, location)
        fields, copy = FIELDS[kind], {}
        for key, value in node.items():
            field = fields.get(key)
            part: Any
            if field is None:
                part = plain_value(kind, key, value)
                if kind == "schema" and type(part) in CONTAINERS and key not in VALUE_KEYWORDS:
                    part = self._visit(UNKNOWN, part, (location, key))
            else:
                part = self._part(field, value, (location, key))
            if part is not DROPPED:
                copy[key] = part
            elif value is not None:
                is_known = field is not None or key in PLAIN_FIELDS.get(kind, PLAIN_KEYWORDS)
                self._omissions.add((location, key), WRONG_TYPE if is_known else NOT_A_FIELD)
        return copy

    def _part(self, field: tuple[Shape, str], value: Any, location: Location) -> Any:
        shape, inner = field
        if shape is Shape.ONE or (shape is Shape.ONE_OR_LIST and not isinstance(value, list)):
            return self._visit(inner, value, location)
        if shape is Shape.LIST or shape is Shape.ONE_OR_LIST:
            return self._list(value, inner, location)
        if not isinstance(value, dict):
            return DROPPED
        if shape is Shape.STATUSES:
            return self._responses(value, location)
        is_mixed = shape is Shape.MAP_OR_TEXTS
        return self._map(
            (key, item, (location, key), None if is_mixed and isinstance(item, list) else inner)
            for key, item in value.items()
        )

    def _map(self, items: Iterable[tuple[str, Any, Location, str | None]]) -> dict[str, Any]:
        """The copy of a map. `items` are its entries: key, value, location and kind. A value without a kind is shared,
        not copied."""
        copy = {}
        for key, item, location, kind in items:
            part = item if kind is None else self._visit(kind, item, location)
            if part is not DROPPED:
                copy[key] = part
            elif item is not None:
                self._omissions.add(location, WRONG_TYPE)
        return copy

    def _list(self, value: Any, kind: str, location: Location) -> Any:
        if not isinstance(value, list):
            return DROPPED
        copy = []
        for index, item in enumerate(value):
            part = self._visit(kind, item, (location, str(index)))
            if part is not DROPPED:
                copy.append(part)
            else:
                self._omissions.add((location, str(index)), WRONG_TYPE)
        return copy

    def _responses(self, value: dict[str, Any], location: Location) -> dict[str, Any]:
        return self._map(
            (status, item, own_location, None if status.startswith("x-") else "response")
            for status, item, own_location in responses_of(value, location, self._omissions)
        )

    def _callback(self, node: dict[str, Any], location: Location) -> dict[str, Any]:
        return self._map(
            (key, item, (location, key), None if key.startswith("x-") else "path_item") for key, item in node.items()
        )


def responses_of(
    responses: dict[str, Any], location: Location, omissions: Omissions
) -> Iterator[tuple[str, Any, Location]]:
    """Each response or extension: its status as OpenAPI writes it (`2XX` for `2xx`), the object, and its location."""
    seen = set()
    for key, response in responses.items():
        status = key if key.startswith("x-") else status_of(key)
        if status is None:
            omissions.add((location, key), "not a status in OpenAPI")
        elif status in seen:
            omissions.add((location, key), "another response has this status")
        else:
            seen.add(status)
            yield status, response, (location, key)


def status_of(key: str) -> str | None:
    for status in (key, key.upper(), key.lower()):
        if STATUS.fullmatch(status):
            return status
    return None


def plain_value(kind: str, key: str, value: Any) -> Any:
    """The value of a field that contains no objects of the kinds in `object_types`; DROPPED if an object of this kind
    can't have this field or a value of this type. A number becomes a text if the field requires a text, because YAML
    reads a title such as 2024 as a number."""
    if key.startswith("x-"):
        return value
    if kind == "schema":
        expected = PLAIN_KEYWORDS.get(key)
        if expected is None:
            return value if value is not None or key in LITERAL_KEYWORDS else DROPPED
    elif key == "$ref":
        # The node is a Reference Object in place of an object of this kind.
        return value if isinstance(value, str) and kind in SECTIONS else DROPPED
    else:
        expected = PLAIN_FIELDS[kind].get(key)
        if expected is None:
            return DROPPED
    if isinstance(value, expected):
        return value
    return DROPPED if expected is not str else text_of(value) or DROPPED


def text_of(value: Any) -> str | None:
    """A text or number as text; None for other types and for the empty text."""
    if isinstance(value, str):
        return value or None
    return json.dumps(value) if isinstance(value, int | float) else None
