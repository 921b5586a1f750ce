"""Parses YAML into plain values, within bounds. PyYAML's parser yields events; this module builds values from them.

PyYAML's own loaders are unsuitable: they implement YAML 1.1, in which `on`, `no` and 2026-01-01 are not texts, but
OpenAPI requires the core schema of YAML 1.2 (OpenAPI 3.1.1 4.2); their composer recurses in C; and they expand merge
keys and aliases, which can grow a few lines without bound, before the size can be checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

NULL = re.compile(r"null|Null|NULL|~|")
BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
INTEGER = re.compile(r"[-+]?[0-9]{1,300}")
OTHER_BASE = re.compile(r"0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}


class InvalidYaml(Exception):
    """The text is not YAML, has values that JSON does not have, or exceeds a bound."""


def read_yaml(text: str, *, max_depth: int, max_events: int, max_characters: int) -> Any:
    """The only document in the text, with the types of JSON: keys and dates are texts. An alias becomes a copy of the
    value of its anchor; `max_characters` bounds all copies together. Raises InvalidYaml."""
    builder = Builder(max_depth, max_events, max_characters)
    try:
        for event in yaml.parse(text, Loader=Loader):
            builder.add(event)
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidYaml(" ".join(str(error).split())[:200]) from None
    if len(builder.documents) != 1:
        raise InvalidYaml(f"{len(builder.documents)} documents")
    return builder.documents[0]


@dataclass(slots=True)
class OpenContainer:
    """A list or mapping whose end event has not been read yet."""

    value: list[Any] | dict[str, Any]
    anchor: str | None
    key: str | None = None
    # The mappings that are the values of << keys. The container's own keys take precedence over the keys of these
    # mappings, and earlier mappings over later ones (YAML 1.1 merge type).
    merged: list[Any] = field(default_factory=list)


class Builder:
    """Builds values from events, without recursion."""

    def __init__(self, max_depth: int, max_events: int, max_characters: int) -> None:
        self.documents: list[Any] = []
        self._open: list[OpenContainer] = []
        self._anchors: dict[str, Any] = {}
        self._max_depth = max_depth
        self._events_left = max_events
        self._characters_left = max_characters

    def add(self, event: Any) -> None:
        self._events_left -= 1
        if self._events_left < 0:
            raise InvalidYaml("too many values")
        if isinstance(event, yaml.ScalarEvent):
            # Keys are texts even if they look like numbers, such as status codes.
            self._put(event.value if self._awaits_key() or self._is_version(event) else scalar(event), event.anchor)
        elif isinstance(event, yaml.MappingStartEvent):
            self._enter({}, event)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._enter([], event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            closed = self._open.pop()
            if isinstance(closed.value, dict):
                self._merge(closed)
            self._put(closed.value, closed.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._put(self._copy_of(event.anchor), None)

    def _enter(self, value: list[Any] | dict[str, Any], event: Any) -> None:
        check_tag(event.tag)
        if len(self._open) >= self._max_depth:
            raise InvalidYaml(f"nested more than {self._max_depth} deep")
        self._open.append(OpenContainer(value, event.anchor))

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _is_version(self, event: Any) -> bool:
        """Whether the scalar is `info.version` and looks like a number: as a number, 1.10 would become 1.1."""
        if len(self._open) != 2 or self._open[0].key != "info" or self._open[1].key != "version":
            return False
        return event.tag is None and isinstance(scalar(event), int | float)

    def _put(self, value: Any, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = value
        if not self._open:
            self.documents.append(value)
            return
        parent = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.key is None:
            if not isinstance(value, str):
                raise InvalidYaml("a key that is not a text")
            parent.key = value
        elif parent.key == "<<":
            parent.merged.extend(value if isinstance(value, list) else [value])
            parent.key = None
        else:
            parent.value[parent.key] = value
            parent.key = None

    def _merge(self, closed: OpenContainer) -> None:
        assert isinstance(closed.value, dict)  # noqa: S101 - for the type checker: only mappings have keys
        for other in closed.merged:
            if not isinstance(other, dict):
                raise InvalidYaml("<< with something other than a mapping")
            for key, value in other.items():
                closed.value.setdefault(key, value)

    def _copy_of(self, anchor: str | None) -> Any:
        if anchor is None or anchor not in self._anchors:
            # This includes an alias inside of its own anchor, which would be endless.
            raise InvalidYaml("an alias without a complete anchor")
        return self._copied(self._anchors[anchor], len(self._open))

    def _copied(self, value: Any, depth: int) -> Any:
        # Counted before the copy is made, so that nested aliases fail early.
        self._characters_left -= 1 + (len(value) if isinstance(value, str) else 0)
        if self._characters_left < 0:
            raise InvalidYaml("aliases that expand to too much text")
        if not isinstance(value, dict | list):
            return value
        if depth >= self._max_depth:
            raise InvalidYaml(f"nested more than {self._max_depth} deep")
        if isinstance(value, list):
            return [self._copied(item, depth + 1) for item in value]
        return dict(self._copied_items(value, depth))

    def _copied_items(self, value: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
        for key, item in value.items():
            self._characters_left -= len(key)
            yield key, self._copied(item, depth + 1)


def scalar(event: Any) -> Any:
    """The value of a scalar. The core schema (YAML 1.2.2 10.3.2) says what a plain scalar is; any other scalar is a
    text. Numbers that JSON does not have, such as infinity, stay texts."""
    check_tag(event.tag)
    text: str = event.value
    if event.tag is not None and event.tag.endswith(":str"):
        return text
    # A quoted scalar is a text unless it has a tag.
    if not event.implicit[0] and event.tag is None:
        return text
    return core_value(text)


def core_value(text: str) -> Any:
    if NULL.fullmatch(text):
        return None
    if BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if INTEGER.fullmatch(text):
        return int(text)
    if OTHER_BASE.fullmatch(text):
        return int(text, 0)
    if FLOAT.fullmatch(text):
        number = float(text)
        return number if number - number == 0 else text
    return text


def check_tag(tag: str | None) -> None:
    if tag is not None and tag != "!" and tag not in TAGS:
        raise InvalidYaml(f"the tag {tag[:60]!r}")
