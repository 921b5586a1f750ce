"""Rewrites parts of one service's document for the merged one: prefixes names, follows references, upgrades 3.0 to 3.1.

Only the parts that a caller passes in, and the targets of their references, are rewritten. So components that only
hidden or unmapped operations use are left out.

- A reference to a component becomes a reference to its new name. The target of any other reference (`#/paths/…`,
  `…/$defs/X`, an anchor, a `$id`) becomes a component, because paths change and anchors of two services may be equal.
- `$id`, `$anchor` and `$dynamicAnchor` are left out, as nothing refers to them any more. A `$dynamicRef` becomes a
  `$ref` if its target does not depend on the schemas from which it is reached.
- A reference is unresolved if it has no target or if its target is in another document, which clients could not load
  through the gateway. A schema, response or request body with an unresolved reference becomes one that allows anything
  and has the reference in `x-gateway-unresolved`. Other parts with an unresolved reference are left out.
- Values (examples, defaults, enum, const, extensions) are copied unchanged. Unknown keywords of schemas may contain
  schemas, so references in them are followed.
- `omissions` lists all that is left out.
"""

from __future__ import annotations

from typing import Any

from gateway.openapi.component_lookup import ComponentLookup, fragment_of, is_parameter
from gateway.openapi.discriminators import Discriminators
from gateway.openapi.names import UniqueNames, tag_name
from gateway.openapi.oauth_flows import TokenUrls, has_password_login, is_absolute, usable_scheme
from gateway.openapi.object_copy import DROPPED, ObjectCopier, text_of
from gateway.openapi.object_types import LITERAL_KEYWORDS, SECTIONS, UNKNOWN
from gateway.openapi.omissions import (
    NO_SUCH_OPERATION,
    NOWHERE,
    OTHER_SERVERS,
    WRONG_TYPE,
    Location,
    Omissions,
    location_of,
)
from gateway.openapi.references import base_within
from gateway.openapi.upgrade_to_3_1 import is_openapi_3_0, to_2020_12, upgraded, without_ref_siblings

UNRESOLVED = "x-gateway-unresolved"
KINDS = {section: kind for kind, section in SECTIONS.items()}
IDENTIFIERS = ("$id", "$anchor", "$dynamicAnchor")


class Rewriter:
    """Rewrites parts of one document with `rewrite`; `rewrite_components` then fills `components` with the targets of
    the references in these parts.

    Before the first call of `rewrite`, the caller adds each operation of the merged document to `client_paths` and
    `operation_ids`. `client_paths` maps the path template and method in the service's document to the client's path,
    `operation_ids` maps the operationId in the service's document to the new one. Links to other operations are left
    out."""

    def __init__(
        self,
        service: str,
        document: dict[str, Any],
        lookup: ComponentLookup,
        token_urls: TokenUrls,
        omissions: Omissions,
    ) -> None:
        self.components: dict[str, dict[str, Any]] = {}
        self.client_paths: dict[tuple[str, str], str] = {}
        self.operation_ids: dict[str, str] = {}
        self.operation_names = UniqueNames(service, allow_any_characters=True)
        self._service = service
        self._token_urls = token_urls
        self._omissions = omissions
        self._copied = ObjectCopier(self._visit, omissions).copied
        self._is_openapi_3_0 = is_openapi_3_0(document)
        self._lookup = lookup
        self._references = lookup.references
        self._discriminators = Discriminators(document, lookup.references)
        self._base = ""

    def rewrite(self, kind: str, node: Any, location: Location) -> Any:
        """The part at this location as it is in the merged document, or DROPPED."""
        self._base = ""
        return self._visit(kind, node, location)

    def rewrite_components(self) -> None:
        """Rewrites the targets of all references in the rewritten parts, then the targets of references in those
        targets, and so on."""
        while self._lookup.pending:
            kind, target, name = self._lookup.pending.popleft()
            node = target.node
            if kind == "schema" and target.tokens[:2] == ("components", "schemas") and len(target.tokens) == 3:
                node = self._discriminators.with_children(target.tokens[2], node)
            self._base = target.base
            self.components.setdefault(SECTIONS[kind], {})[name] = self._visit(kind, node, location_of(target.tokens))

    def scheme_name(self, name: str) -> str | None:
        """The new name of a security scheme, which becomes a component; None if there is no such scheme."""
        return self._lookup.component_name("security_scheme", self._lookup.security_scheme(name))

    def scheme(self, name: str) -> dict[str, Any] | None:
        """The service's security scheme of this name, not rewritten."""
        target = self._lookup.follow("security_scheme", self._lookup.security_scheme(name))
        return target.node if target else None

    def login_name(self, name: str) -> str | None:
        """The new name of a security scheme, as from `scheme_name`; None if clients can't get a token through the
        gateway by the password flow of this scheme."""
        scheme = self.scheme(name)
        return self.scheme_name(name) if scheme is not None and has_password_login(scheme, self._token_urls) else None

    def _visit(self, kind: str, node: Any, location: Location) -> Any:
        if kind == UNKNOWN:
            return self._unknown(node, location) if has_reference(node) else node
        if not isinstance(node, dict):
            return node if kind == "schema" and isinstance(node, bool) else DROPPED
        if kind == "schema":
            return self._schema(node, location)
        if "$ref" in node:
            if kind in SECTIONS and isinstance(node["$ref"], str):
                return self._reference(kind, node, location)
            node = {key: value for key, value in node.items() if key != "$ref"}
        if kind == "parameter" and not is_parameter(node):
            return DROPPED
        if kind == "link":
            return self._link(node, location)
        copy = self._copied(kind, node, location)
        if kind == "response":
            copy.setdefault("description", "")
        elif kind == "request_body":
            copy.setdefault("content", {})
        elif kind == "operation":
            self._rewrite_callback_operation(copy, location)
        elif kind == "path_item":
            self._drop(copy, "servers", location, OTHER_SERVERS)
        elif kind == "security_scheme":
            copy = usable_scheme(copy, self._token_urls, location, self._omissions)
        return copy

    def _drop(self, node: dict[str, Any], key: str, location: Location, reason: str) -> None:
        if node.pop(key, None):
            self._omissions.add((location, key), reason)

    def _schema(self, node: dict[str, Any], location: Location) -> dict[str, Any]:
        outer, self._base = self._base, base_within(node, self._base)
        try:
            if self._is_openapi_3_0:
                node = without_ref_siblings(node)
            schema = self._copied("schema", self._discriminators.with_branches(node, self._base), location)
            for keyword in IDENTIFIERS:
                # An identifier that is not a text is removed, too: it has no meaning.
                schema.pop(keyword, None)
            for keyword in ("$ref", "$dynamicRef"):
                if keyword in schema:
                    self._rewrite_reference(schema, keyword, schema.pop(keyword), location)
            if "discriminator" in schema:
                self._rewrite_discriminator(schema, schema.pop("discriminator"), location)
        finally:
            self._base = outer
        return upgraded(to_2020_12(schema)) if self._is_openapi_3_0 else to_2020_12(schema)

    def _rewrite_reference(self, schema: dict[str, Any], keyword: str, reference: Any, location: Location) -> None:
        if not isinstance(reference, str):
            return
        find = self._references.find if keyword == "$ref" else self._references.find_dynamic
        name = self._lookup.component_name("schema", find(reference, self._base))
        if name is None:
            schema[UNRESOLVED] = shortened(reference)
            self._omissions.add((location, keyword), NOWHERE)
        elif "$ref" in schema:
            schema["allOf"] = [*schema.get("allOf", []), {"$ref": f"#/components/schemas/{name}"}]
        else:
            schema["$ref"] = f"#/components/schemas/{name}"

    def _rewrite_discriminator(self, schema: dict[str, Any], discriminator: Any, location: Location) -> None:
        if not isinstance(discriminator, dict):
            self._omissions.add((location, "discriminator"), WRONG_TYPE)
            return
        schema["discriminator"] = self._discriminators.with_new_targets(
            discriminator, self._base, self._reference_to_schema
        )
        given, mapping = discriminator.get("mapping"), schema["discriminator"].get("mapping", {})
        for value in given if isinstance(given, dict) else ():
            if value not in mapping:
                self._omissions.add((((location, "discriminator"), "mapping"), value), NOWHERE)

    def _unknown(self, node: Any, location: Location, *, are_names: bool = False) -> Any:
        """The value of an unknown keyword of a schema, with its references rewritten. A `$ref` there may be something
        other than a reference, so only those that begin with "#" are treated as references. `are_names` says that the
        keys of the node are names of properties, not keywords."""
        if isinstance(node, list):
            return [self._unknown(item, (location, str(index))) for index, item in enumerate(node)]
        if not isinstance(node, dict):
            return node
        copy = {
            key: value
            if key in LITERAL_KEYWORDS and not are_names
            else self._unknown(value, (location, key), are_names=key == "properties" and not are_names)
            for key, value in node.items()
        }
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            target = self._references.find(reference, self._base)
            kind = KINDS.get(target.tokens[1], "schema") if target is not None and len(target.tokens) == 3 else "schema"
            if name := self._lookup.component_name(kind, target):
                copy["$ref"] = f"#/components/{SECTIONS[kind]}/{name}"
            else:
                del copy["$ref"]
                copy[UNRESOLVED] = shortened(reference)
                self._omissions.add((location, "$ref"), NOWHERE)
        return copy

    def _reference_to_schema(self, reference: str, base: str) -> str | None:
        name = self._lookup.component_name("schema", self._references.find(reference, base))
        return name and f"#/components/schemas/{name}"

    def _reference(self, kind: str, node: dict[str, Any], location: Location) -> Any:
        target = self._references.find(node["$ref"], self._base)
        if kind == "link":
            # A reference to a link is replaced by the link, because whether the link stays depends on its operation.
            link = self._lookup.follow(kind, target)
            if link is not None:
                return self._link(link.node, location)
            self._omissions.add(location, NOWHERE)
            return DROPPED
        name = self._lookup.component_name(kind, target)
        if name is None:
            self._omissions.add(location, NOWHERE)
            return unresolved(kind, node["$ref"])
        siblings = {key: node[key] for key in ("summary", "description") if isinstance(node.get(key), str)}
        return {"$ref": f"#/components/{SECTIONS[kind]}/{name}", **siblings}

    def _link(self, node: dict[str, Any], location: Location) -> Any:
        link = self._copied("link", node, location)
        self._drop(link, "server", location, OTHER_SERVERS)
        if "operationId" in link:
            link["operationId"] = self.operation_ids.get(link["operationId"])
            leads_somewhere = link["operationId"] is not None
        else:
            leads_somewhere = self._rewrite_operation_ref(link)
        if not leads_somewhere:
            self._omissions.add(location, NO_SUCH_OPERATION)
        return link if leads_somewhere else DROPPED

    def _rewrite_operation_ref(self, link: dict[str, Any]) -> bool:
        """Makes the link lead to the same operation in the merged document; False if there is none."""
        reference = link.get("operationRef")
        if not isinstance(reference, str):
            return False
        target = self._references.find(reference)
        if target is None:
            return is_absolute(reference)
        if len(target.tokens) != 3 or target.tokens[1:] not in self.client_paths:
            return False
        path = fragment_of(self.client_paths[target.tokens[1], target.tokens[2]])
        link["operationRef"] = f"#/paths/{path}/{target.tokens[2]}"
        return True

    def _rewrite_callback_operation(self, operation: dict[str, Any], location: Location) -> None:
        """Rewrites operationId, tags and security of an operation in a callback, and leaves its servers out. `fragment`
        builds these fields of all other operations."""
        self._drop(operation, "servers", location, OTHER_SERVERS)
        if identifier := text_of(operation.pop("operationId", None)):
            operation["operationId"] = self.operation_names.assign(object(), identifier)
        tags = operation.pop("tags", None)
        if isinstance(tags, list):
            operation["tags"] = [tag_name(self._service, tag) for tag in map(text_of, tags) if tag is not None]
        security = operation.pop("security", None)
        if isinstance(security, list):
            operation["security"] = [
                self._renamed(requirement) for requirement in security if isinstance(requirement, dict)
            ]

    def _renamed(self, requirement: dict[str, Any]) -> dict[str, Any]:
        names = {self.scheme_name(name): scopes for name, scopes in requirement.items()}
        return {name: scopes for name, scopes in names.items() if name is not None and isinstance(scopes, list)}


def unresolved(kind: str, reference: str) -> Any:
    if kind == "response":
        return {"description": "", UNRESOLVED: shortened(reference)}
    if kind == "request_body":
        return {"content": {"*/*": {}}, UNRESOLVED: shortened(reference)}
    return DROPPED


def shortened(reference: str) -> str:
    """The reference without host and directories of the URL of another document, because they may be internal."""
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
