"""Looks up what references in one service's document name, and gives the components that they become their names."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.openapi.names import Names, wish_for
from gateway.openapi.omissions import Where, escaped, where_of
from gateway.openapi.references import Found, References
from gateway.openapi.structure import SECTIONS

# How much may be written out again in places that refer to it, counted in values and characters: far beyond any use.
MAX_COPIED = 4_000_000
# A fragment of RFC 3986 3.5, but for the % that is made here.
FRAGMENT_CHARACTERS = "~!$&'()*+,;=:@/?"


class Lookup:
    """`pending` are the components that have been given a name and are still to be made: their kind, where they stand,
    and the name."""

    def __init__(self, service: str, document: dict[str, Any]) -> None:
        self.references = References(document)
        self.pending: deque[tuple[str, Found, str]] = deque()
        self._asked: set[tuple[str, ...]] = set()
        self._copied = 0
        self._sizes: dict[tuple[str, ...], int] = {}
        components = document.get("components")
        given: Mapping[str, Any] = components if isinstance(components, dict) else {}
        self._names = {section: Names(service) for section in SECTIONS.values()}
        for section, names in self._names.items():
            if isinstance(given.get(section), dict):
                names.reserve(given[section])

    def dereferenced(self, kind: str, node: Any, where: Where) -> tuple[dict[str, Any], Where] | None:
        """The object itself, or what it refers to, as it stands in the service's document, and where; None where that
        is nothing. To be written out in this place, so it counts towards what may be copied."""
        found = self.followed(kind, Found((), node, ""))
        if found is None:
            return None
        if not found.tokens:
            return found.node, where
        if found.tokens not in self._sizes:
            self._sizes[found.tokens] = size_of(found.node)
        self._copied += self._sizes[found.tokens]
        return (found.node, where_of(found.tokens)) if self._copied <= MAX_COPIED else None

    def looked_up(self, kind: str, node: Any) -> dict[str, Any] | None:
        """As `dereferenced`, only to look at it."""
        found = self.followed(kind, Found((), node, ""))
        return found.node if found else None

    def security_scheme(self, name: str) -> Found | None:
        return self.references.find(f"#/components/securitySchemes/{fragment_of(name)}")

    def name_of(self, kind: str, found: Found | None) -> str | None:
        """The name of the component that holds what was found, or None where that can't be one of this kind."""
        found = self.followed(kind, found)
        # The document as a whole is no component, although "#" names it.
        if found is None or not found.tokens:
            return None
        section, names, tokens = SECTIONS[kind], self._names[SECTIONS[kind]], found.tokens
        if tokens[:1] == ("components",) and len(tokens) == 3:
            if tokens[1] != section:
                return None
            name = names.give(tokens[2], tokens[2])
        else:
            name = names.give(tokens, wish_for(tokens))
        if (section, *tokens) not in self._asked:
            self._asked.add((section, *tokens))
            self.pending.append((kind, found, name))
        return name

    def followed(self, kind: str, found: Found | None) -> Found | None:
        """What was found, or, where that is a reference again, what it leads to in the end. A schema may be a reference
        and more, so it stays itself."""
        seen = set()
        while found is not None and isinstance(found.node, dict) and kind != "schema":
            reference = found.node.get("$ref")
            if not isinstance(reference, str):
                return found if kind != "parameter" or is_parameter(found.node) else None
            if found.tokens in seen:
                return None
            seen.add(found.tokens)
            found = self.references.find(reference, found.base)
        is_schema = kind == "schema" and found is not None and isinstance(found.node, dict | bool)
        return found if is_schema else None


def is_parameter(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("name"), str) and isinstance(node.get("in"), str)


def fragment_of(token: str) -> str:
    """The token of a JSON Pointer as it stands in a URL's fragment."""
    return quote(escaped(token), safe=FRAGMENT_CHARACTERS)


def size_of(node: Any) -> int:
    """Values and characters in it, those of its keys too."""
    total, pending = 0, [node]
    while pending:
        value = pending.pop()
        total += 1 + (len(value) if isinstance(value, str) else 0)
        if isinstance(value, dict):
            total += sum(map(len, value))
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return total
