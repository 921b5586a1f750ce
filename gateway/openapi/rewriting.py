"""One service's parts as they stand in the merged document: names prefixed, references followed, 3.0 lifted.

Only what is asked for, and what that refers to, gets in: components of hidden or unreachable operations stay out.

- A reference to a component becomes one to its new name. One to any other place (`#/paths/…`, `…/$defs/X`, an anchor,
  a `$id`) makes a component of what stands there, as places move and anchors of two services may be the same.
- `$id`, `$anchor` and `$dynamicAnchor` have done their work then and are left out. A `$dynamicRef` becomes a `$ref`
  where its target does not depend on the way to it.
- A reference that leads nowhere, or into another document, which clients could not read through the gateway: a schema
  becomes one that allows anything and says so in `x-gateway-unresolved`, so do responses and request bodies; other
  parts are left out.
- Tokens that are values (examples, defaults, enum, const, extensions) are passed on as they are. In schemas, keywords
  that no specification names may hold schemas: references in them follow, too.
- Whatever is left out is listed in `omissions`.
"""

from __future__ import annotations

from typing import Any

from gateway.openapi.discriminators import Discriminators
from gateway.openapi.lookup import Lookup, fragment_of, is_parameter
from gateway.openapi.names import Names, tag_name
from gateway.openapi.oauth_flows import TokenUrls, has_routed_login, is_absolute, reachable
from gateway.openapi.omissions import (
    NO_SUCH_OPERATION,
    NOWHERE,
    OTHER_SERVERS,
    WRONG_TYPE,
    Omissions,
    Where,
    where_of,
)
from gateway.openapi.rebuilding import DROPPED, Rebuilding, text_of
from gateway.openapi.references import base_within
from gateway.openapi.structure import LITERAL_KEYWORDS, SECTIONS, UNKNOWN
from gateway.openapi.upgrade_to_3_1 import is_old, lifted, modern, without_ignored

UNRESOLVED = "x-gateway-unresolved"
KINDS = {section: kind for kind, section in SECTIONS.items()}
NAMES_OF_SCHEMAS = ("$id", "$anchor", "$dynamicAnchor")


class Rewriting:
    """Rewrites parts of one document; `components` has what they refer to once `finish` has been called.

    `places` maps a surviving operation's (template, method) in the service's document to its path at the gateway,
    `operation_ids` its operationId to the new one; links to other operations are left out. Whoever uses this fills the
    two before the first call of `part`."""

    def __init__(
        self,
        service: str,
        document: dict[str, Any],
        lookup: Lookup,
        token_urls: TokenUrls,
        omissions: Omissions,
    ) -> None:
        self.components: dict[str, dict[str, Any]] = {}
        self.places: dict[tuple[str, str], str] = {}
        self.operation_ids: dict[str, str] = {}
        self.operation_names = Names(service, are_free=True)
        self._service = service
        self._token_urls = token_urls
        self._omissions = omissions
        self._rebuilt = Rebuilding(self._visit, omissions).rebuilt
        self._is_old = is_old(document)
        self._lookup = lookup
        self._references = lookup.references
        self._discriminators = Discriminators(document, lookup.references)
        self._base = ""

    def part(self, kind: str, node: Any, where: Where) -> Any:
        """The part of the document that stands there as it is in the merged one, or DROPPED."""
        self._base = ""
        return self._visit(kind, node, where)

    def finish(self) -> None:
        """Rewrites the components that were referred to, and those that they refer to."""
        while self._lookup.pending:
            kind, found, name = self._lookup.pending.popleft()
            node = found.node
            if kind == "schema" and found.tokens[:2] == ("components", "schemas") and len(found.tokens) == 3:
                node = self._discriminators.with_children(found.tokens[2], node)
            self._base = found.base
            self.components.setdefault(SECTIONS[kind], {})[name] = self._visit(kind, node, where_of(found.tokens))

    def scheme_name(self, name: str) -> str | None:
        """The new name of a security scheme, which gets into the components with it."""
        return self._lookup.name_of("security_scheme", self._lookup.security_scheme(name))

    def scheme(self, name: str) -> dict[str, Any] | None:
        """The service's security scheme of this name."""
        found = self._lookup.followed("security_scheme", self._lookup.security_scheme(name))
        return found.node if found else None

    def login_name(self, name: str) -> str | None:
        """As `scheme_name`, where clients can get a token through the gateway by this scheme's password flow."""
        scheme = self.scheme(name)
        return self.scheme_name(name) if scheme is not None and has_routed_login(scheme, self._token_urls) else None

    def _visit(self, kind: str, node: Any, where: Where) -> Any:
        if kind == UNKNOWN:
            return self._unknown(node, where) if has_reference(node) else node
        if not isinstance(node, dict):
            return node if kind == "schema" and isinstance(node, bool) else DROPPED
        if kind == "schema":
            return self._schema(node, where)
        if "$ref" in node:
            if kind in SECTIONS and isinstance(node["$ref"], str):
                return self._reference(kind, node, where)
            node = {key: value for key, value in node.items() if key != "$ref"}
        if kind == "parameter" and not is_parameter(node):
            return DROPPED
        if kind == "link":
            return self._link(node, where)
        copy = self._rebuilt(kind, node, where)
        if kind == "response":
            copy.setdefault("description", "")
        elif kind == "request_body":
            copy.setdefault("content", {})
        elif kind == "operation":
            self._name_operation(copy, where)
        elif kind == "path_item":
            self._drop(copy, "servers", where, OTHER_SERVERS)
        elif kind == "security_scheme":
            copy = reachable(copy, self._token_urls, where, self._omissions)
        return copy

    def _drop(self, node: dict[str, Any], key: str, where: Where, reason: str) -> None:
        if node.pop(key, None):
            self._omissions.add((where, key), reason)

    def _schema(self, node: dict[str, Any], where: Where) -> dict[str, Any]:
        outer, self._base = self._base, base_within(node, self._base)
        try:
            if self._is_old:
                node = without_ignored(node)
            schema = self._rebuilt("schema", self._discriminators.with_branches(node, self._base), where)
            for keyword in NAMES_OF_SCHEMAS:
                # A subschema is never the value of these keywords, so what is not text here means nothing either.
                schema.pop(keyword, None)
            for keyword in ("$ref", "$dynamicRef"):
                if keyword in schema:
                    self._settle(schema, keyword, schema.pop(keyword), where)
            if "discriminator" in schema:
                self._settle_discriminator(schema, schema.pop("discriminator"), where)
        finally:
            self._base = outer
        return lifted(modern(schema)) if self._is_old else modern(schema)

    def _settle(self, schema: dict[str, Any], keyword: str, reference: Any, where: Where) -> None:
        if not isinstance(reference, str):
            return
        find = self._references.find if keyword == "$ref" else self._references.find_dynamic
        name = self._lookup.name_of("schema", find(reference, self._base))
        if name is None:
            schema[UNRESOLVED] = told(reference)
            self._omissions.add((where, keyword), NOWHERE)
        elif "$ref" in schema:
            schema["allOf"] = [*schema.get("allOf", []), {"$ref": f"#/components/schemas/{name}"}]
        else:
            schema["$ref"] = f"#/components/schemas/{name}"

    def _settle_discriminator(self, schema: dict[str, Any], discriminator: Any, where: Where) -> None:
        if not isinstance(discriminator, dict):
            self._omissions.add((where, "discriminator"), WRONG_TYPE)
            return
        settled = self._discriminators.mapped(discriminator, self._base, self._reference_to_schema)
        schema["discriminator"] = settled
        given = discriminator.get("mapping")
        if isinstance(given, dict) and len(given) > len(settled.get("mapping", ())):
            place = ((where, "discriminator"), "mapping")
            for value in given:
                if value not in settled.get("mapping", ()):
                    self._omissions.add((place, value), NOWHERE)

    def _unknown(self, node: Any, where: Where, *, are_names: bool = False) -> Any:
        """What stands below a keyword of a schema that no specification names, with its references followed. Whether
        they are references is not known, so only those that can be none of another document are taken for such."""
        if isinstance(node, list):
            return [self._unknown(item, (where, str(index))) for index, item in enumerate(node)]
        if not isinstance(node, dict):
            return node
        copy = {
            key: value
            if key in LITERAL_KEYWORDS and not are_names
            else self._unknown(value, (where, key), are_names=key == "properties" and not are_names)
            for key, value in node.items()
        }
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            found = self._references.find(reference, self._base)
            kind = KINDS.get(found.tokens[1], "schema") if found is not None and len(found.tokens) == 3 else "schema"
            if name := self._lookup.name_of(kind, found):
                copy["$ref"] = f"#/components/{SECTIONS[kind]}/{name}"
            else:
                del copy["$ref"]
                copy[UNRESOLVED] = told(reference)
                self._omissions.add((where, "$ref"), NOWHERE)
        return copy

    def _reference_to_schema(self, reference: str, base: str) -> str | None:
        name = self._lookup.name_of("schema", self._references.find(reference, base))
        return name and f"#/components/schemas/{name}"

    def _reference(self, kind: str, node: dict[str, Any], where: Where) -> Any:
        found = self._references.find(node["$ref"], self._base)
        if kind == "link":
            # What is left of a link depends on where it leads, so it is written out.
            followed = self._lookup.followed(kind, found)
            if followed is not None:
                return self._link(followed.node, where)
            self._omissions.add(where, NOWHERE)
            return DROPPED
        name = self._lookup.name_of(kind, found)
        if name is None:
            self._omissions.add(where, NOWHERE)
            return unresolved(kind, node["$ref"])
        beside = {key: node[key] for key in ("summary", "description") if isinstance(node.get(key), str)}
        return {"$ref": f"#/components/{SECTIONS[kind]}/{name}", **beside}

    def _link(self, node: dict[str, Any], where: Where) -> Any:
        link = self._rebuilt("link", node, where)
        self._drop(link, "server", where, OTHER_SERVERS)
        if "operationId" in link:
            link["operationId"] = self.operation_ids.get(link["operationId"])
            is_possible = link["operationId"] is not None
        else:
            is_possible = self._settle_operation(link)
        if not is_possible:
            self._omissions.add(where, NO_SUCH_OPERATION)
        return link if is_possible else DROPPED

    def _settle_operation(self, link: dict[str, Any]) -> bool:
        """Makes the link lead to the same operation in the merged document; False where that is not there."""
        reference = link.get("operationRef")
        if not isinstance(reference, str):
            return False
        found = self._references.find(reference)
        if found is None:
            return is_absolute(reference)
        if len(found.tokens) != 3 or found.tokens[1:] not in self.places:
            return False
        path = fragment_of(self.places[found.tokens[1], found.tokens[2]])
        link["operationRef"] = f"#/paths/{path}/{found.tokens[2]}"
        return True

    def _name_operation(self, operation: dict[str, Any], where: Where) -> None:
        """For operations of callbacks, which clients answer; the gateway's own get the rest from `truth`."""
        self._drop(operation, "servers", where, OTHER_SERVERS)
        if identifier := text_of(operation.pop("operationId", None)):
            operation["operationId"] = self.operation_names.give(object(), identifier)
        tags = operation.pop("tags", None)
        if isinstance(tags, list):
            operation["tags"] = [tag_name(self._service, tag) for tag in map(text_of, tags) if tag is not None]
        security = operation.pop("security", None)
        if isinstance(security, list):
            operation["security"] = [self._renamed(needs) for needs in security if isinstance(needs, dict)]

    def _renamed(self, requirement: dict[str, Any]) -> dict[str, Any]:
        names = {self.scheme_name(name): scopes for name, scopes in requirement.items()}
        return {name: scopes for name, scopes in names.items() if name is not None and isinstance(scopes, list)}


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


def has_reference(node: Any) -> bool:
    pending = [node]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if "$ref" in value:
                return True
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False
