"""Builds one service's fragment of the merged document: its operations as clients call them, and their components."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.openapi.component_lookup import ComponentLookup, is_parameter
from gateway.openapi.gateway_annotations import PolicyAnnotations, annotate_operation, annotations_for
from gateway.openapi.inputs import GatewayFacts, ServiceDocument
from gateway.openapi.names import tag_name
from gateway.openapi.oauth_flows import TokenUrls
from gateway.openapi.object_copy import DROPPED, responses_of, text_of
from gateway.openapi.object_types import FIELDS
from gateway.openapi.omissions import NOT_A_FIELD, OTHER_SERVERS, WRONG_TYPE, Location, Omissions
from gateway.openapi.operation_policy import PolicyTable
from gateway.openapi.path_filter import path_matcher
from gateway.openapi.path_mapping import PathMapping, are_on_gateway
from gateway.openapi.rewriter import Rewriter
from gateway.openapi.security import NEVER_FORWARDED, Security, is_dropped_header
from gateway.openapi.service_info import info_of, omit_invalid
from gateway.route_policy import RoutePolicy

# The fields of an OpenAPI Object.
DOCUMENT_FIELDS = frozenset(
    "openapi info servers paths webhooks components security tags externalDocs jsonSchemaDialect".split()
)
# The values of jsonSchemaDialect under which schemas can be merged: the default of OpenAPI 3.1, a later edition of that
# dialect, and JSON Schema 2020-12, which both extend.
DIALECTS = (
    "https://spec.openapis.org/oas/3.1/dialect/base",
    "https://spec.openapis.org/oas/3.1/dialect/2024-11-10",
    "https://json-schema.org/draft/2020-12/schema",
)
# The fields of a Path Item Object that are texts and are copied unchanged.
COPIED_TEXTS = ("summary", "description")


@dataclass(slots=True)
class Fragment:
    """What a service adds to the merged document. `tags` are the tags of its operations, under their names in the
    service's document."""

    paths: dict[str, Any] = field(default_factory=dict)
    components: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    omissions: Omissions = field(default_factory=Omissions)


@dataclass(frozen=True, slots=True)
class MappedPath:
    """A path of the service that clients can call: its template in the service's document, the client's path, the Path
    Item Object with the location of each of its fields, and the policies of the operations to be documented."""

    template: str
    path: str
    item: dict[str, Any]
    locations: dict[str, Location]
    policies: dict[str, RoutePolicy]


class FragmentBuilder:
    """Builds the fragment of one service. `document` is as `parse_document` returns it, `table` has the policies of all
    services."""

    def __init__(
        self, part: ServiceDocument, document: dict[str, Any], table: PolicyTable, facts: GatewayFacts
    ) -> None:
        self._part = part
        self._document = document
        self._table = table
        self._facts = facts
        self._mapping = PathMapping(part)
        self._lookup = ComponentLookup(part.name, document)
        self._omissions = Omissions()
        token_urls = TokenUrls(document, self._mapping, table)
        self._rewriter = Rewriter(part.name, document, self._lookup, token_urls, self._omissions)
        self._security = Security(self._rewriter, facts, self._omissions)
        self._tags: dict[str, None] = {}
        self._annotations: dict[str, PolicyAnnotations] = {}

    def build(self) -> Fragment:
        self._omit_document_fields()
        mapped_paths = list(self._mapped_paths())
        # All operations are named before any is rewritten, because links refer to the names of other operations.
        for mapped in mapped_paths:
            self._name_operations(mapped)
        paths = {mapped.path: self._path_item(mapped) for mapped in mapped_paths}
        self._rewriter.rewrite_components()
        return Fragment(paths, self._rewriter.components, list(self._tags), self._omissions)

    def _omit_document_fields(self) -> None:
        for key, value in self._document.items():
            if key not in DOCUMENT_FIELDS:
                self._omissions.add((None, key), NOT_A_FIELD)
            elif key == "webhooks" and value:
                self._omissions.add((None, key), "requests that a service sends do not pass the gateway")
            elif key == "jsonSchemaDialect" and value not in DIALECTS:
                reason = "the schemas of all services are in one document, in the dialect of OpenAPI"
                self._omissions.add((None, key), reason)

        omit_invalid(info_of(self._document), self._omissions)
        paths = self._document.get("paths")
        for key in paths if isinstance(paths, dict) else ():
            if key.startswith("x-"):
                self._omissions.add(((None, "paths"), key), "it is about all paths of the service")

    def _mapped_paths(self) -> Iterator[MappedPath]:
        is_hidden, taken = path_matcher(self._part.hidden_paths), set[str]()
        paths = self._document.get("paths")
        for template, given in paths.items() if isinstance(paths, dict) else []:
            location: Location = ((None, "paths"), template)
            if not isinstance(given, dict):
                self._omit_path(template, location, WRONG_TYPE, is_hidden)
                continue
            resolved = self._lookup.resolve_inline("path_item", given, location)
            if resolved is None:
                reason = "the reference has no target, or too much would be copied"
                self._omit_path(template, location, reason, is_hidden)
                continue
            item = resolved[0] | {key: value for key, value in given.items() if key != "$ref"}
            locations: dict[str, Location] = {key: (location if key in given else resolved[1], key) for key in item}
            for path, methods in self._mapping.methods_by_path(template, item).items():
                if is_hidden(path):
                    continue
                policies = {
                    method: policy
                    for method in methods
                    # The path may belong to another service, whose prefix is below the prefix of this service.
                    if (policy := self._table.policy_for(method, path)) and policy.service == self._part.name
                }
                if policies and path in taken:
                    self._omissions.add(location, "clients call another path of the document by the same path")
                elif policies:
                    taken.add(path)
                    yield MappedPath(template, path, item, locations, policies)

    def _omit_path(self, template: str, location: Location, reason: str, is_hidden: Callable[[str], bool]) -> None:
        """Records the omission, unless the path is hidden or clients can't call it."""
        path = self._mapping.client_path(template)
        if path is not None and not is_hidden(path):
            self._omissions.add(location, reason)

    def _name_operations(self, mapped: MappedPath) -> None:
        for method in mapped.policies:
            self._rewriter.client_paths[mapped.template, method] = mapped.path
            if identifier := text_of(mapped.item[method].get("operationId")):
                name = self._rewriter.operation_names.assign((mapped.path, method), identifier)
                self._rewriter.operation_ids.setdefault(identifier, name)

    def _path_item(self, mapped: MappedPath) -> dict[str, Any]:
        item: dict[str, Any] = {}
        for key, value in mapped.item.items():
            if key.startswith("x-") or (key in COPIED_TEXTS and isinstance(value, str)):
                item[key] = value
            elif key == "servers":
                self._omit_servers(value, mapped.locations[key])
            elif key not in FIELDS["path_item"] and value is not None:
                self._omissions.add(mapped.locations[key], WRONG_TYPE if key in COPIED_TEXTS else NOT_A_FIELD)
        if parameters := self._parameters(mapped.item.get("parameters"), mapped.locations.get("parameters")):
            item["parameters"] = parameters
        for method, policy in mapped.policies.items():
            item[method] = self._operation(mapped, method, policy)
        return item

    def _omit_servers(self, servers: Any, location: Location) -> None:
        if not are_on_gateway(servers):
            self._omissions.add(location, OTHER_SERVERS)

    def _operation(self, mapped: MappedPath, method: str, policy: RoutePolicy) -> dict[str, Any]:
        given: dict[str, Any] = mapped.item[method]
        location = mapped.locations[method]
        self._omit_servers(given.get("servers"), (location, "servers"))
        built_here = {
            "parameters": self._parameters(given.get("parameters"), (location, "parameters")),
            "responses": self._responses(given.get("responses"), (location, "responses")),
        }
        not_rewritten = {"servers", "security", "operationId", "tags", *built_here}
        rewritten = self._rewriter.rewrite(
            "operation", {key: value for key, value in given.items() if key not in not_rewritten}, location
        )
        operation: dict[str, Any] = {"tags": self._tag_names(given.get("tags"))}
        if name := self._rewriter.operation_names.get((mapped.path, method)):
            operation["operationId"] = name
        operation |= rewritten | {key: value for key, value in built_here.items() if value}
        container, declaring = (location, given) if "security" in given else (None, self._document)
        operation["security"] = self._security.requirements(policy, declaring.get("security"), (container, "security"))
        if policy.name not in self._annotations:
            self._annotations[policy.name] = annotations_for(policy, self._facts)
        return annotate_operation(operation, policy, self._facts, self._annotations[policy.name])

    def _parameters(self, given: Any, location: Location) -> list[Any]:
        """The parameters except headers that the gateway never forwards."""
        if given is not None and not isinstance(given, list):
            self._omissions.add(location, WRONG_TYPE)
        parameters = []
        for index, parameter in enumerate(given if isinstance(given, list) else []):
            own_location, resolved = (location, str(index)), self._lookup.resolve("parameter", parameter)
            if resolved is None or not is_parameter(resolved):
                self._omissions.add(own_location, "neither a parameter nor a reference to one")
            elif resolved["in"] == "header" and is_dropped_header(resolved["name"], self._facts):
                self._omissions.add(own_location, NEVER_FORWARDED)
            else:
                rewritten = self._rewriter.rewrite("parameter", parameter, own_location)
                if rewritten is not DROPPED:
                    parameters.append(rewritten)
        return parameters

    def _responses(self, given: Any, location: Location) -> dict[str, Any]:
        """The responses, with references replaced by their targets, because the gateway adds headers to each."""
        if given is not None and not isinstance(given, dict):
            self._omissions.add(location, WRONG_TYPE)
        responses = {}
        for status, response, own_location in responses_of(
            given if isinstance(given, dict) else {}, location, self._omissions
        ):
            if status.startswith("x-"):
                responses[status] = response
                continue
            resolved = self._lookup.resolve_inline("response", response, own_location)
            node, node_location = (response, own_location) if resolved is None else resolved
            rewritten = self._rewriter.rewrite("response", node, node_location)
            if rewritten is not DROPPED:
                responses[status] = rewritten
            elif response is not None:
                self._omissions.add(own_location, WRONG_TYPE)
        return responses

    def _tag_names(self, given: Any) -> list[str]:
        tags = [tag for tag in map(text_of, given) if tag is not None] if isinstance(given, list) else []
        self._tags.update(dict.fromkeys(tags))
        # An operation without tags has the tag of its service.
        return list(dict.fromkeys(tag_name(self._part.name, tag) for tag in tags)) or [self._part.name]
