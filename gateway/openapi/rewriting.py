"""One service's parts as they stand in the merged document: names prefixed, references followed, 3.0 lifted.

Only what is asked for, and what that refers to, gets in: components of hidden or unreachable operations stay out.

- A reference to a component becomes one to its new name. One to any other place (`#/paths/…`, `…/$defs/X`, an anchor,
  a `$id`) makes a component of what stands there, as places move and anchors of two services may be the same.
- `$id`, `$anchor` and `$dynamicAnchor` have done their work then and are left out. A `$dynamicRef` becomes a `$ref`
  where its target does not depend on the way to it.
- A reference that leads nowhere, or into another document, which clients could not read through the gateway: a schema
  becomes one that allows anything and says so in `x-gateway-unresolved`, so do responses and request bodies; other
  parts are left out.
- Tokens that are values (examples, defaults, enum, const, extensions) are passed on as they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from gateway.openapi.discriminators import Discriminators
from gateway.openapi.lift import is_old, lift_part
from gateway.openapi.names import Names, tag_name, wish_for
from gateway.openapi.references import Found, References, base_within, escaped
from gateway.openapi.structure import DROPPED, SECTIONS, rebuilt

UNRESOLVED = "x-gateway-unresolved"
NAMES_OF_SCHEMAS = ("$id", "$anchor", "$dynamicAnchor")
# How much may be written out again in places that refer to it, counted in values and characters: far beyond any use.
MAX_COPIED = 4_000_000
# A fragment of RFC 3986 3.5, but for the % that is made here.
FRAGMENT_CHARACTERS = "~!$&'()*+,;=:@/?"


class Rewriting:
    """Rewrites parts of one document; `components` has what they refer to once `finish` has been called.

    `places` maps a surviving operation's (template, method) in the service's document to its path at the gateway,
    `operation_ids` its operationId to the new one; links to other operations are left out. Whoever uses this fills the
    two before the first call of `part`."""

    def __init__(self, service: str, document: dict[str, Any]) -> None:
        self.components: dict[str, dict[str, Any]] = {}
        self.places: dict[tuple[str, str], str] = {}
        self.operation_ids: dict[str, str] = {}
        self.operation_names = Names(service, are_free=True)
        self._service = service
        self._is_old = is_old(document)
        self._references = References(document)
        self._discriminators = Discriminators(document, self._references)
        self._base = ""
        self._copied = 0
        self._sizes: dict[tuple[str, ...], int] = {}
        self._asked: set[tuple[str, ...]] = set()
        self._pending: deque[tuple[str, Found, str]] = deque()
        components = document.get("components")
        given: Mapping[str, Any] = components if isinstance(components, dict) else {}
        self._names = {section: Names(service) for section in SECTIONS.values()}
        for section, names in self._names.items():
            if isinstance(given.get(section), dict):
                names.reserve(given[section])

    def part(self, kind: str, node: Any) -> Any:
        """The part of the document as it is in the merged one, or DROPPED."""
        self._base = ""
        return self._visit(kind, lift_part(kind, node) if self._is_old else node)

    def finish(self) -> None:
        """Rewrites the components that were referred to, and those that they refer to."""
        while self._pending:
            kind, found, name = self._pending.popleft()
            node = found.node
            if kind == "schema" and found.tokens[:2] == ("components", "schemas") and len(found.tokens) == 3:
                node = self._discriminators.with_children(found.tokens[2], node)
            if self._is_old:
                node = lift_part(kind, node)
            self._base = found.base
            self.components.setdefault(SECTIONS[kind], {})[name] = self._visit(kind, node)

    def dereferenced(self, kind: str, node: Any) -> dict[str, Any] | None:
        """The object itself, or what it refers to, as it stands in the service's document; None where that is nothing.
        To be written out in this place, so it counts towards what may be copied."""
        found = self._followed(kind, Found((), node, ""))
        if found is None or not found.tokens:
            return found.node if found else None
        if found.tokens not in self._sizes:
            self._sizes[found.tokens] = size_of(found.node)
        self._copied += self._sizes[found.tokens]
        return found.node if self._copied <= MAX_COPIED else None

    def looked_up(self, kind: str, node: Any) -> dict[str, Any] | None:
        """As `dereferenced`, only to look at it."""
        found = self._followed(kind, Found((), node, ""))
        return found.node if found else None

    def scheme_name(self, name: str) -> str | None:
        """The new name of a security scheme, which gets into the components with it."""
        return self._component("security_scheme", self._scheme(name))

    def scheme(self, name: str) -> dict[str, Any] | None:
        """The service's security scheme of this name."""
        found = self._followed("security_scheme", self._scheme(name))
        return found.node if found else None

    def _scheme(self, name: str) -> Found | None:
        return self._references.find(f"#/components/securitySchemes/{quote(escaped(name), safe=FRAGMENT_CHARACTERS)}")

    def _visit(self, kind: str, node: Any) -> Any:
        if not isinstance(node, dict):
            return node if kind == "schema" and isinstance(node, bool) else DROPPED
        if kind == "schema":
            return self._schema(node)
        if "$ref" in node:
            if kind in SECTIONS and isinstance(node["$ref"], str):
                return self._reference(kind, node)
            node = {key: value for key, value in node.items() if key != "$ref"}
        if kind == "parameter" and not is_parameter(node):
            return DROPPED
        if kind == "link":
            return self._link(node)
        copy = rebuilt(kind, node, self._visit)
        if kind == "response":
            copy.setdefault("description", "")
        elif kind == "request_body":
            copy.setdefault("content", {})
        elif kind == "operation":
            self._name_operation(copy)
        elif kind == "path_item":
            copy.pop("servers", None)
        elif kind == "security_scheme":
            copy = with_absolute_urls(copy)
        return copy

    def _schema(self, node: dict[str, Any]) -> dict[str, Any]:
        outer, self._base = self._base, base_within(node, self._base)
        try:
            schema = rebuilt("schema", self._discriminators.with_branches(node, self._base), self._visit)
            for keyword in NAMES_OF_SCHEMAS:
                # A subschema is never the value of these keywords, so what is not text here means nothing either.
                schema.pop(keyword, None)
            for keyword in ("$ref", "$dynamicRef"):
                if keyword in schema:
                    self._settle(schema, keyword, schema.pop(keyword))
            if "discriminator" in schema:
                discriminator = schema.pop("discriminator")
                if isinstance(discriminator, dict):
                    schema["discriminator"] = self._discriminators.mapped(
                        discriminator, self._base, self._reference_to_schema
                    )
        finally:
            self._base = outer
        return schema

    def _settle(self, schema: dict[str, Any], keyword: str, reference: Any) -> None:
        if not isinstance(reference, str):
            return
        find = self._references.find if keyword == "$ref" else self._references.find_dynamic
        name = self._component("schema", find(reference, self._base))
        if name is None:
            schema[UNRESOLVED] = told(reference)
        elif "$ref" in schema:
            schema["allOf"] = [*schema.get("allOf", []), {"$ref": f"#/components/schemas/{name}"}]
        else:
            schema["$ref"] = f"#/components/schemas/{name}"

    def _reference_to_schema(self, reference: str, base: str) -> str | None:
        name = self._component("schema", self._references.find(reference, base))
        return name and f"#/components/schemas/{name}"

    def _reference(self, kind: str, node: dict[str, Any]) -> Any:
        found = self._references.find(node["$ref"], self._base)
        if kind == "link":
            # What is left of a link depends on where it leads, so it is written out.
            followed = self._followed(kind, found)
            return DROPPED if followed is None else self._link(followed.node)
        name = self._component(kind, found)
        if name is None:
            return unresolved(kind, node["$ref"])
        beside = {key: node[key] for key in ("summary", "description") if isinstance(node.get(key), str)}
        return {"$ref": f"#/components/{SECTIONS[kind]}/{name}", **beside}

    def _component(self, kind: str, found: Found | None) -> str | None:
        """The name of the component that holds what was found, or None where that can't be one of this kind."""
        found = self._followed(kind, found)
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
            self._pending.append((kind, found, name))
        return name

    def _followed(self, kind: str, found: Found | None) -> Found | None:
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
            found = self._references.find(reference, found.base)
        is_schema = kind == "schema" and found is not None and isinstance(found.node, dict | bool)
        return found if is_schema else None

    def _link(self, node: dict[str, Any]) -> Any:
        link = {key: value for key, value in node.items() if key != "server" and value is not None}
        if "operationId" in link:
            link["operationId"] = self.operation_ids.get(str(link["operationId"]))
            return link if link["operationId"] is not None else DROPPED
        reference = link.get("operationRef")
        if not isinstance(reference, str):
            return DROPPED
        found = self._references.find(reference)
        if found is None:
            return link if is_absolute(reference) else DROPPED
        if len(found.tokens) != 3 or found.tokens[1:] not in self.places:
            return DROPPED
        path = quote(escaped(self.places[found.tokens[1], found.tokens[2]]), safe=FRAGMENT_CHARACTERS)
        return link | {"operationRef": f"#/paths/{path}/{found.tokens[2]}"}

    def _name_operation(self, operation: dict[str, Any]) -> None:
        """For operations of callbacks, which clients answer; the gateway's own get the rest from `truth`."""
        operation.pop("servers", None)
        identifier = operation.pop("operationId", None)
        if isinstance(identifier, str):
            operation["operationId"] = self.operation_names.give(object(), identifier)
        tags = operation.pop("tags", None)
        if isinstance(tags, list):
            operation["tags"] = [tag_name(self._service, tag) for tag in tags if isinstance(tag, str)]
        security = operation.pop("security", None)
        if isinstance(security, list):
            operation["security"] = [self._renamed(needs) for needs in security if isinstance(needs, dict)]

    def _renamed(self, requirement: dict[str, Any]) -> dict[str, Any]:
        names = {self.scheme_name(name): scopes for name, scopes in requirement.items()}
        return {name: scopes for name, scopes in names.items() if name is not None and isinstance(scopes, list)}


def is_parameter(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("name"), str) and isinstance(node.get("in"), str)


def is_absolute(reference: str) -> bool:
    try:
        return urlsplit(reference).scheme in ("http", "https")
    except ValueError:
        return False


def unresolved(kind: str, reference: str) -> Any:
    if kind == "response":
        return {"description": "", UNRESOLVED: told(reference)}
    if kind == "request_body":
        return {"content": {"*/*": {}}, UNRESOLVED: told(reference)}
    return DROPPED


def told(reference: str) -> str:
    """The reference, without the host and folders that another document is at: they may be internal."""
    location, separator, fragment = reference.partition("#")
    return location.partition("?")[0].rpartition("/")[2] + separator + fragment


def with_absolute_urls(scheme: dict[str, Any]) -> dict[str, Any]:
    """An OAuth 2 or OpenID Connect scheme whose addresses are relative, and would lead elsewhere from the gateway's
    document, as what it comes to for a request: a bearer token."""
    flows = scheme.get("flows")
    all_flows = [flow for flow in flows.values() if isinstance(flow, dict)] if isinstance(flows, dict) else []
    urls = [value for flow in all_flows for key, value in flow.items() if key.endswith("Url")]
    urls += [scheme["openIdConnectUrl"]] if "openIdConnectUrl" in scheme else []
    if scheme.get("type") not in ("oauth2", "openIdConnect") or all(is_absolute(str(url)) for url in urls):
        return scheme
    kept = {key: value for key, value in scheme.items() if key == "description" or key.startswith("x-")}
    return {"type": "http", "scheme": "bearer", **kept}


def size_of(node: Any) -> int:
    """Values and characters in it."""
    total, pending = 0, [node]
    while pending:
        value = pending.pop()
        total += 1 + (len(value) if isinstance(value, str) else 0)
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return total
