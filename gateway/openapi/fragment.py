"""One service's share of the merged document: its operations as clients call them, with what they refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.openapi.gateway_annotations import PolicyNotes, notes_on, tell
from gateway.openapi.inputs import GatewayFacts, ServiceDocument
from gateway.openapi.lookup import Lookup, is_parameter
from gateway.openapi.names import tag_name
from gateway.openapi.oauth_flows import TokenUrls
from gateway.openapi.omissions import NOT_A_FIELD, OTHER_SERVERS, WRONG_TYPE, Omissions, Where
from gateway.openapi.operation_policy import PolicyTable
from gateway.openapi.path_filter import hider
from gateway.openapi.path_mapping import PathMapping, mean_the_gateway
from gateway.openapi.rebuilding import DROPPED, responses_of, text_of
from gateway.openapi.rewriting import Rewriting
from gateway.openapi.security import NEVER_ARRIVES, Security, is_dropped_field
from gateway.openapi.service_info import info_of, omit_unusable
from gateway.openapi.structure import FIELDS
from gateway.route_policy import RoutePolicy

# Of a Path Item Object; its `servers` are the service's own, and other methods have no policy told.
FIELDS_OF_DOCUMENTS = frozenset(
    "openapi info servers paths webhooks components security tags externalDocs jsonSchemaDialect".split()
)
# What OpenAPI 3.1 takes schemas for where nothing is said, and what it is made of.
DIALECTS = (
    "https://spec.openapis.org/oas/3.1/dialect/base",
    "https://spec.openapis.org/oas/3.1/dialect/2024-11-10",
    "https://json-schema.org/draft/2020-12/schema",
)
KEPT_OF_PATHS = ("summary", "description")


@dataclass(slots=True)
class Fragment:
    """What a service adds to the document. `tags` are its own names of the tags that its operations have."""

    paths: dict[str, Any] = field(default_factory=dict)
    components: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    omissions: Omissions = field(default_factory=Omissions)


@dataclass(frozen=True, slots=True)
class Place:
    """A path of the service that clients can call, and the policies of those of its operations that are its own.
    `where` tells where each field of the item stands in the service's document."""

    template: str
    path: str
    item: dict[str, Any]
    where: dict[str, Where]
    policies: dict[str, RoutePolicy]


def build_fragment(
    part: ServiceDocument, document: dict[str, Any], table: PolicyTable, facts: GatewayFacts
) -> Fragment:
    """The share of a service whose document is a tree as `reading.read` returns it."""
    return Sharing(part, document, table, facts).share()


class Sharing:
    def __init__(
        self, part: ServiceDocument, document: dict[str, Any], table: PolicyTable, facts: GatewayFacts
    ) -> None:
        self._part = part
        self._document = document
        self._table = table
        self._facts = facts
        self._placing = PathMapping(part)
        self._lookup = Lookup(part.name, document)
        self._omissions = Omissions()
        token_urls = TokenUrls(document, self._placing, table)
        self._rewriting = Rewriting(part.name, document, self._lookup, token_urls, self._omissions)
        self._security = Security(self._rewriting, facts, self._omissions)
        self._tags: dict[str, None] = {}
        self._notes: dict[str, PolicyNotes] = {}

    def share(self) -> Fragment:
        self._omit_parts_of_the_document()
        places = list(self._places())
        # All names are known before the first link to one of them is met.
        for place in places:
            self._name_operations(place)
        paths = {place.path: self._item(place) for place in places}
        self._rewriting.finish()
        return Fragment(paths, self._rewriting.components, list(self._tags), self._omissions)

    def _omit_parts_of_the_document(self) -> None:
        for key, value in self._document.items():
            if key not in FIELDS_OF_DOCUMENTS:
                self._omissions.add((None, key), NOT_A_FIELD)
            elif key == "webhooks" and value:
                self._omissions.add((None, key), "what a service sends by itself does not pass the gateway")
            elif key == "jsonSchemaDialect" and value not in DIALECTS:
                self._omissions.add((None, key), "all services' schemas are in one document, in OpenAPI's own dialect")

        omit_unusable(info_of(self._document), self._omissions)
        paths = self._document.get("paths")
        for key in paths if isinstance(paths, dict) else ():
            if key.startswith("x-"):
                self._omissions.add(((None, "paths"), key), "it is about all paths of the service")

    def _places(self) -> Iterator[Place]:
        is_hidden, taken = hider(self._part.hidden_paths), set[str]()
        paths = self._document.get("paths")
        for template, given in paths.items() if isinstance(paths, dict) else []:
            where: Where = ((None, "paths"), template)
            if not isinstance(given, dict):
                self._omit_path(template, where, WRONG_TYPE, is_hidden)
                continue
            found = self._lookup.dereferenced("path_item", given, where)
            if found is None:
                self._omit_path(template, where, "it leads nowhere, or too much is referred to", is_hidden)
                continue
            item = found[0] | {key: value for key, value in given.items() if key != "$ref"}
            places: dict[str, Where] = {key: (where if key in given else found[1], key) for key in item}
            for path, methods in self._placing.methods_by_path(template, item).items():
                if is_hidden(path):
                    continue
                policies = {
                    method: policy
                    for method in methods
                    # Another service's prefix may lie within this one's.
                    if (policy := self._table.policy_for(method, path)) and policy.service == self._part.name
                }
                if policies and path in taken:
                    self._omissions.add(where, "another path is called the same by clients")
                elif policies:
                    taken.add(path)
                    yield Place(template, path, item, places, policies)

    def _omit_path(self, template: str, where: Where, reason: str, is_hidden: Callable[[str], bool]) -> None:
        """Of paths that clients can't call, and of hidden ones, nobody is told."""
        path = self._placing.place(template)
        if path is not None and not is_hidden(path):
            self._omissions.add(where, reason)

    def _name_operations(self, place: Place) -> None:
        for method in place.policies:
            self._rewriting.places[place.template, method] = place.path
            if identifier := text_of(place.item[method].get("operationId")):
                name = self._rewriting.operation_names.give((place.path, method), identifier)
                self._rewriting.operation_ids.setdefault(identifier, name)

    def _item(self, place: Place) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in place.item.items():
            if key.startswith("x-") or (key in KEPT_OF_PATHS and isinstance(value, str)):
                kept[key] = value
            elif key == "servers":
                self._omit_servers(value, place.where[key])
            elif key not in FIELDS["path_item"] and value is not None:
                self._omissions.add(place.where[key], WRONG_TYPE if key in KEPT_OF_PATHS else NOT_A_FIELD)
        if parameters := self._parameters(place.item.get("parameters"), place.where.get("parameters")):
            kept["parameters"] = parameters
        for method, policy in place.policies.items():
            kept[method] = self._operation(place, method, policy)
        return kept

    def _omit_servers(self, servers: Any, where: Where) -> None:
        if not mean_the_gateway(servers):
            self._omissions.add(where, OTHER_SERVERS)

    def _operation(self, place: Place, method: str, policy: RoutePolicy) -> dict[str, Any]:
        given: dict[str, Any] = place.item[method]
        where = place.where[method]
        self._omit_servers(given.get("servers"), (where, "servers"))
        outside = {
            "parameters": self._parameters(given.get("parameters"), (where, "parameters")),
            "responses": self._responses(given.get("responses"), (where, "responses")),
        }
        # These are the gateway's matter, or made anew here.
        left_out = {"servers", "security", "operationId", "tags", *outside}
        operation = self._rewriting.part(
            "operation", {key: value for key, value in given.items() if key not in left_out}, where
        )
        told: dict[str, Any] = {"tags": self._tag_names(given.get("tags"))}
        if name := self._rewriting.operation_names.given((place.path, method)):
            told["operationId"] = name
        told |= operation | {key: value for key, value in outside.items() if value}
        stands_in, declares = (where, given) if "security" in given else (None, self._document)
        told["security"] = self._security.of(policy, declares.get("security"), (stands_in, "security"))
        if policy.name not in self._notes:
            self._notes[policy.name] = notes_on(policy, self._facts)
        return tell(told, policy, self._facts, self._notes[policy.name])

    def _parameters(self, given: Any, where: Where) -> list[Any]:
        """Without the fields that never arrive: a client that sent them would wonder."""
        if given is not None and not isinstance(given, list):
            self._omissions.add(where, WRONG_TYPE)
        found = []
        for index, parameter in enumerate(given if isinstance(given, list) else []):
            place, looked_up = (where, str(index)), self._lookup.looked_up("parameter", parameter)
            if looked_up is None or not is_parameter(looked_up):
                self._omissions.add(place, "neither a parameter nor a reference to one")
            elif looked_up["in"] == "header" and is_dropped_field(looked_up["name"], self._facts):
                self._omissions.add(place, NEVER_ARRIVES)
            else:
                part = self._rewriting.part("parameter", parameter, place)
                if part is not DROPPED:
                    found.append(part)
        return found

    def _responses(self, given: Any, where: Where) -> dict[str, Any]:
        """Written out, as each gets fields that the gateway adds."""
        if given is not None and not isinstance(given, dict):
            self._omissions.add(where, WRONG_TYPE)
        found = {}
        for status, response, place in responses_of(given if isinstance(given, dict) else {}, where, self._omissions):
            if status.startswith("x-"):
                found[status] = response
                continue
            written_out = self._lookup.dereferenced("response", response, place)
            part = self._rewriting.part("response", *((response, place) if written_out is None else written_out))
            if part is not DROPPED:
                found[status] = part
            elif response is not None:
                self._omissions.add(place, WRONG_TYPE)
        return found

    def _tag_names(self, given: Any) -> list[str]:
        tags = [tag for tag in map(text_of, given) if tag is not None] if isinstance(given, list) else []
        self._tags.update(dict.fromkeys(tags))
        # One that has none stands under its service.
        return list(dict.fromkeys(tag_name(self._part.name, tag) for tag in tags)) or [self._part.name]
