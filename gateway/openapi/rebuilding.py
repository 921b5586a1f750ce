"""Copies the objects of a document, walking by `structure`: what is known is visited, what is not is left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final

from gateway.openapi.omissions import NOT_A_FIELD, WRONG_TYPE, Omissions, Where
from gateway.openapi.structure import (
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


class Dropped(Enum):
    """What a visit returns for a part that is to be left out."""

    DROPPED = 0


CONTAINERS: Final = (dict, list)
DROPPED: Final = Dropped.DROPPED
Visit = Callable[[str, Any, Where], Any]


class Rebuilding:
    """Copies objects, in which each part that the specification names is what `visit(kind, part, where)` returns. What
    it does not name, or gives another type, is left out, as is null; only schemas keep keywords of their own, whose
    values are visited as UNKNOWN. All else is the same value, not a copy. `omissions` gets what is left out."""

    def __init__(self, visit: Visit, omissions: Omissions) -> None:
        self._visit = visit
        self._omissions = omissions

    def rebuilt(self, kind: str, node: dict[str, Any], where: Where) -> dict[str, Any]:
        """The copy of an object of this kind, which stands there."""
        if kind == "callback":
            # All its other keys are expressions that stand for addresses.
            return dict(node) if isinstance(node.get("$ref"), str) else self._callback(node, where)
        fields, copy = FIELDS[kind], {}
        for key, value in node.items():
            field = fields.get(key)
            part: Any
            if field is None:
                part = plain_value(kind, key, value)
                if kind == "schema" and type(part) in CONTAINERS and key not in VALUE_KEYWORDS:
                    part = self._visit(UNKNOWN, part, (where, key))
            else:
                part = self._part(field, value, (where, key))
            if part is not DROPPED:
                copy[key] = part
            elif value is not None:
                is_known = field is not None or key in PLAIN_FIELDS.get(kind, PLAIN_KEYWORDS)
                self._omissions.add((where, key), WRONG_TYPE if is_known else NOT_A_FIELD)
        return copy

    def _part(self, field: tuple[Shape, str], value: Any, where: Where) -> Any:
        shape, inner = field
        if shape is Shape.ONE or (shape is Shape.ONE_OR_LIST and not isinstance(value, list)):
            return self._visit(inner, value, where)
        if shape is Shape.LIST or shape is Shape.ONE_OR_LIST:
            return self._list(value, inner, where)
        if not isinstance(value, dict):
            return DROPPED
        if shape is Shape.STATUSES:
            return self._responses(value, where)
        is_mixed, copy = shape is Shape.MAP_OR_TEXTS, {}
        for key, item in value.items():
            part = item if is_mixed and isinstance(item, list) else self._visit(inner, item, (where, key))
            if part is not DROPPED:
                copy[key] = part
            elif item is not None:
                self._omissions.add((where, key), WRONG_TYPE)
        return copy

    def _list(self, value: Any, kind: str, where: Where) -> Any:
        if not isinstance(value, list):
            return DROPPED
        copy = []
        for index, item in enumerate(value):
            part = self._visit(kind, item, (where, str(index)))
            if part is not DROPPED:
                copy.append(part)
            else:
                self._omissions.add((where, str(index)), WRONG_TYPE)
        return copy

    def _responses(self, value: dict[str, Any], where: Where) -> dict[str, Any]:
        copy = {}
        for status, item, place in responses_of(value, where, self._omissions):
            part = item if status.startswith("x-") else self._visit("response", item, place)
            if part is not DROPPED:
                copy[status] = part
            elif item is not None:
                self._omissions.add(place, WRONG_TYPE)
        return copy

    def _callback(self, node: dict[str, Any], where: Where) -> dict[str, Any]:
        copy = {}
        for key, item in node.items():
            part = item if key.startswith("x-") else self._visit("path_item", item, (where, key))
            if part is not DROPPED:
                copy[key] = part
            elif item is not None:
                self._omissions.add((where, key), WRONG_TYPE)
        return copy


def responses_of(responses: dict[str, Any], where: Where, omissions: Omissions) -> Iterator[tuple[str, Any, Where]]:
    """Each response: its status as OpenAPI writes it (`2XX` for `2xx`), itself, and where it stands; extensions too."""
    met = set()
    for key, response in responses.items():
        status = key if key.startswith("x-") else status_of(key)
        if status is None:
            omissions.add((where, key), "not a status that OpenAPI knows")
        elif status in met:
            omissions.add((where, key), "another response has this status")
        else:
            met.add(status)
            yield status, response, (where, key)


def status_of(key: str) -> str | None:
    for status in (key, key.upper(), key.lower()):
        if STATUS.fullmatch(status):
            return status
    return None


def plain_value(kind: str, key: str, value: Any) -> Any:
    """The value of a field that holds none of the kinds; DROPPED where it can't stand there. YAML makes numbers of
    titles such as 2024, which are texts here."""
    if key.startswith("x-"):
        return value
    if kind == "schema":
        expected = PLAIN_KEYWORDS.get(key)
        if expected is None:
            return value if value is not None or key in LITERAL_KEYWORDS else DROPPED
    elif key == "$ref":
        # A reference, in place of the object.
        return value if isinstance(value, str) and kind in SECTIONS else DROPPED
    else:
        expected = PLAIN_FIELDS[kind].get(key)
        if expected is None:
            return DROPPED
    if isinstance(value, expected):
        return value
    return DROPPED if expected is not str else text_of(value) or DROPPED


def text_of(value: Any) -> str | None:
    """A text or number as text; None for all else, and where it is empty."""
    if isinstance(value, str):
        return value or None
    return json.dumps(value) if isinstance(value, int | float) else None
