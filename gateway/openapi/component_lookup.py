"""Finds the targets of references in one service's document, and gives each target its name as a component."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.openapi.names import UniqueNames, suggested_name
from gateway.openapi.object_types import SECTIONS
from gateway.openapi.omissions import Location, escaped, location_of
from gateway.openapi.references import References, Target

# The most that `resolve_inline` copies from one document, in values and characters. Real documents need far less.
MAX_COPIED = 4_000_000
# Characters that a URL fragment may contain unencoded (RFC 3986 3.5).
FRAGMENT_CHARACTERS = "~!$&'()*+,;=:@/?"


class ComponentLookup:
    """Follows the references of one document. `pending` is the queue of the components that have a name but are not
    rewritten yet: the kind, target and name of each."""

    def __init__(self, service: str, document: dict[str, Any]) -> None:
        self.references = References(document)
        self.pending: deque[tuple[str, Target, str]] = deque()
        self._named: set[tuple[str, ...]] = set()
        self._copied = 0
        self._sizes: dict[tuple[str, ...], int] = {}
        components = document.get("components")
        given: Mapping[str, Any] = components if isinstance(components, dict) else {}
        self._names = {section: UniqueNames(service) for section in SECTIONS.values()}
        for section, names in self._names.items():
            if isinstance(given.get(section), dict):
                names.reserve(given[section])

    def resolve_inline(self, kind: str, node: Any, location: Location) -> tuple[dict[str, Any], Location] | None:
        """The object that is written in place of `node`, and its location in the service's document: `node` itself, or
        its target if it is a reference. None if there is no such object, or if MAX_COPIED would be exceeded."""
        target = self.follow(kind, Target((), node, ""))
        if target is None:
            return None
        if not target.tokens:
            return target.node, location
        if target.tokens not in self._sizes:
            self._sizes[target.tokens] = size_of(target.node)
        self._copied += self._sizes[target.tokens]
        return (target.node, location_of(target.tokens)) if self._copied <= MAX_COPIED else None

    def resolve(self, kind: str, node: Any) -> dict[str, Any] | None:
        """`node` itself, or its target if it is a reference; None if there is no such object."""
        target = self.follow(kind, Target((), node, ""))
        return target.node if target else None

    def security_scheme(self, name: str) -> Target | None:
        return self.references.find(f"#/components/securitySchemes/{fragment_of(name)}")

    def component_name(self, kind: str, target: Target | None) -> str | None:
        """The name of the component that the target becomes; None if the target can't be a component of this kind. The
        first call for a target also adds it to `pending`."""
        target = self.follow(kind, target)
        # The reference "#" names the document, which is not a component.
        if target is None or not target.tokens:
            return None
        section, names, tokens = SECTIONS[kind], self._names[SECTIONS[kind]], target.tokens
        if tokens[:1] == ("components",) and len(tokens) == 3:
            if tokens[1] != section:
                return None
            name = names.assign(tokens[2], tokens[2])
        else:
            name = names.assign(tokens, suggested_name(tokens))
        if (section, *tokens) not in self._named:
            self._named.add((section, *tokens))
            self.pending.append((kind, target, name))
        return name

    def follow(self, kind: str, target: Target | None) -> Target | None:
        """The target, or, if it is itself a reference, the end of that chain of references; None if the chain does not
        end at an object. A schema is returned as it is, because it may have other keywords beside $ref."""
        seen = set()
        while target is not None and isinstance(target.node, dict) and kind != "schema":
            reference = target.node.get("$ref")
            if not isinstance(reference, str):
                return target if kind != "parameter" or is_parameter(target.node) else None
            if target.tokens in seen:
                return None
            seen.add(target.tokens)
            target = self.references.find(reference, target.base)
        is_schema = kind == "schema" and target is not None and isinstance(target.node, dict | bool)
        return target if is_schema else None


def is_parameter(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("name"), str) and isinstance(node.get("in"), str)


def fragment_of(token: str) -> str:
    """The token of a JSON Pointer, encoded for a URL fragment."""
    return quote(escaped(token), safe=FRAGMENT_CHARACTERS)


def size_of(node: Any) -> int:
    """The number of values in the node, plus the characters of its texts and keys."""
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
