"""Finds the target of a reference within its document (RFC 3986 5, RFC 6901, JSON Schema 2020-12 8.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from gateway.openapi.object_types import FIELDS, SECTIONS, Shape

Tokens = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a reference: the tokens of its JSON Pointer, the value, and the base URI of references in it."""

    tokens: Tokens
    node: Any
    base: str


class References:
    """Finds targets in one document. The URL of the document is unknown, so its base URI is empty."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._index: Index | None = None

    def find(self, reference: str, base: str = "") -> Target | None:
        """The target of a reference in a schema with this base URI; None if the target is in another
        document or does not exist."""
        if reference.startswith("#/") and not base:
            return self._at(pointer_tokens(reference[1:]))
        try:
            resource, fragment = urldefrag(urljoin(base, reference))
        except ValueError:
            return None
        fragment = unquote(fragment)
        root = () if not resource else self.index.resources.get(resource)
        if root is None:
            # Inside of a schema with $id, "#/components/…" is relative to that schema, but authors mean the document.
            return None if not reference.startswith("#/") else self._at(pointer_tokens(reference[1:]))
        if fragment and not fragment.startswith("/"):
            anchored = self.index.anchors.get((resource, fragment))
            return None if anchored is None else self._at(anchored)
        found = self._at((*root, *(unescaped(token) for token in fragment.split("/")[1:])))
        if found is None and reference.startswith("#/components/"):
            return self._at(pointer_tokens(reference[1:]))
        return found

    def find_dynamic(self, reference: str, base: str) -> Target | None:
        """The target of a $dynamicRef; None if there is none, or if several schemas have that $dynamicAnchor: then the
        target depends on the schemas from which the reference is reached (JSON Schema 2020-12 8.2.3.2)."""
        found = self.find(reference, base)
        name = unquote(reference.partition("#")[2])
        if found is None or self.index.dynamic_counts.get(name, 0) > 1:
            return None
        return found

    @property
    def index(self) -> Index:
        """Built on first use: most documents have neither $id nor anchors."""
        if self._index is None:
            self._index = Index(self._document)
        return self._index

    def _at(self, tokens: Tokens) -> Target | None:
        node: Any = self._document
        base = ""
        for token in tokens:
            if isinstance(node, dict):
                base = base_within(node, base)
                if token not in node:
                    return None
                node = node[token]
            elif isinstance(node, list) and token.isascii() and token.isdigit() and int(token[:9]) < len(node):
                node = node[int(token[:9])]
            else:
                return None
        return Target(tokens, node, base)


def base_within(schema: dict[str, Any], base: str) -> str:
    """The base URI inside of the schema: its $id, resolved against the base URI around it (JSON Schema 2020-12
    8.2.1)."""
    identifier = schema.get("$id")
    if not isinstance(identifier, str):
        return base
    try:
        return urldefrag(urljoin(base, identifier))[0]
    except ValueError:
        return base


def pointer_tokens(pointer: str) -> Tokens:
    """The tokens of a JSON Pointer in a URI fragment, which is percent-encoded and then ~-escaped (RFC 6901 6)."""
    return tuple(unescaped(token) for token in unquote(pointer).split("/")[1:])


def unescaped(token: str) -> str:
    return token.replace("~1", "/").replace("~0", "~")


class Index:
    """Every $id and anchor of a document's schemas. Of two equal ones, the first that is found applies."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.resources: dict[str, Tokens] = {}
        self.anchors: dict[tuple[str, str], Tokens] = {}
        self.dynamic_counts: dict[str, int] = {}
        for tokens, schema, base in schemas_of(document):
            if isinstance(schema.get("$id"), str) and base:
                self.resources.setdefault(base, tokens)
            for keyword in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := schema.get(keyword), str):
                    self.anchors.setdefault((base, name), tokens)
            if isinstance(name := schema.get("$dynamicAnchor"), str):
                self.dynamic_counts[name] = self.dynamic_counts.get(name, 0) + 1


def schemas_of(document: dict[str, Any]) -> Iterator[tuple[Tokens, dict[str, Any], str]]:
    """Every Schema Object: the tokens of its pointer, the object, and its own base URI."""
    pending: list[tuple[Tokens, str, Any, str]] = []
    for section in ("paths", "webhooks"):
        pending += members((section,), "path_item", document.get(section), "")
    components = document.get("components")
    if isinstance(components, dict):
        for kind, section in SECTIONS.items():
            pending += members(("components", section), kind, components.get(section), "")
    while pending:
        tokens, kind, node, base = pending.pop()
        if not isinstance(node, dict):
            continue
        if kind == "callback":
            pending += members(tokens, "path_item", node, base)
            continue
        if kind == "schema":
            base = base_within(node, base)
            yield tokens, node, base
        for key, (shape, inner) in FIELDS[kind].items():
            if key not in node:
                continue
            if shape is Shape.ONE or (shape is Shape.ONE_OR_LIST and isinstance(node[key], dict)):
                pending.append(((*tokens, key), inner, node[key], base))
            else:
                pending += members((*tokens, key), inner, node[key], base)


def members(tokens: Tokens, kind: str, node: Any, base: str) -> list[tuple[Tokens, str, Any, str]]:
    if isinstance(node, dict):
        return [((*tokens, key), kind, value, base) for key, value in reversed(node.items())]
    if isinstance(node, list):
        return [((*tokens, str(index)), kind, value, base) for index, value in reversed(list(enumerate(node)))]
    return []
