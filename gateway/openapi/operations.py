"""One service's share of the merged document: its operations as clients call them, with what they refer to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.openapi.hiding import hider
from gateway.openapi.matching import PolicyTable
from gateway.openapi.names import tag_name
from gateway.openapi.parts import GatewayFacts, ServiceDocument
from gateway.openapi.placing import Placing
from gateway.openapi.rewriting import Rewriting, is_parameter
from gateway.openapi.security import is_dropped_field, security_of
from gateway.openapi.structure import DROPPED, METHODS
from gateway.openapi.truth import tell
from gateway.policies import Policy

# Of a Path Item Object; its `servers` are the service's own, and other methods have no policy told.
KEPT_OF_PATHS = ("summary", "description")


@dataclass(slots=True)
class Share:
    """What a service adds to the document. `tags` are its own names of the tags that its operations have."""

    paths: dict[str, Any] = field(default_factory=dict)
    components: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """A path of the service that clients can call, and the policies of those of its operations that are its own."""

    template: str
    path: str
    item: dict[str, Any]
    policies: dict[str, Policy]


def share_of(part: ServiceDocument, document: dict[str, Any], table: PolicyTable, facts: GatewayFacts) -> Share:
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
        self._rewriting = Rewriting(part.name, document)
        self._tags: dict[str, None] = {}

    def share(self) -> Share:
        places = list(self._places())
        # All names are known before the first link to one of them is met.
        for place in places:
            self._name_operations(place)
        paths = {place.path: self._item(place) for place in places}
        self._rewriting.finish()
        return Share(paths, self._rewriting.components, list(self._tags))

    def _places(self) -> Iterator[Place]:
        placing, is_hidden = Placing(self._part), hider(self._part.hidden_paths)
        paths, taken = self._document.get("paths"), set()
        for template, given in paths.items() if isinstance(paths, dict) else []:
            path = placing.place(template)
            if path is None or path in taken or is_hidden(path) or not isinstance(given, dict):
                continue
            item = self._rewriting.dereferenced("path_item", given)
            if item is None:
                continue
            item = item | {key: value for key, value in given.items() if key != "$ref"}
            policies = {
                method: policy
                for method in item
                if method in METHODS and isinstance(item[method], dict)
                # Another service's prefix may lie within this one's.
                if (policy := self._table.policy_for(method, path)) and policy.service == self._part.name
            }
            if policies:
                taken.add(path)
                yield Place(template, path, item, policies)

    def _name_operations(self, place: Place) -> None:
        for method in place.policies:
            self._rewriting.places[place.template, method] = place.path
            identifier = place.item[method].get("operationId")
            if isinstance(identifier, str):
                name = self._rewriting.operation_names.give((place.path, method), identifier)
                self._rewriting.operation_ids.setdefault(identifier, name)

    def _item(self, place: Place) -> dict[str, Any]:
        kept: dict[str, Any] = {
            key: value
            for key, value in place.item.items()
            if key.startswith("x-") or (key in KEPT_OF_PATHS and isinstance(value, str))
        }
        if parameters := self._parameters(place.item.get("parameters")):
            kept["parameters"] = parameters
        for method, policy in place.policies.items():
            kept[method] = self._operation(place, method, policy)
        return kept

    def _operation(self, place: Place, method: str, policy: Policy) -> dict[str, Any]:
        given: dict[str, Any] = place.item[method]
        outside = {
            "parameters": self._parameters(given.get("parameters")),
            "responses": self._responses(given.get("responses")),
        }
        # These are the gateway's matter, or made anew here.
        left_out = {"servers", "security", "operationId", "tags", *outside}
        operation = self._rewriting.part(
            "operation", {key: value for key, value in given.items() if key not in left_out}
        )
        told: dict[str, Any] = {"tags": self._tag_names(given.get("tags"))}
        if name := self._rewriting.operation_names.given((place.path, method)):
            told["operationId"] = name
        told |= operation | {key: value for key, value in outside.items() if value}
        told["security"] = security_of(
            policy, given.get("security", self._document.get("security")), self._rewriting, self._facts
        )
        return tell(told, policy, self._facts)

    def _parameters(self, given: Any) -> list[Any]:
        """Without the fields that never arrive: a client that sent them would wonder."""
        found = []
        for parameter in given if isinstance(given, list) else []:
            looked_up = self._rewriting.looked_up("parameter", parameter)
            if looked_up is None or not is_parameter(looked_up):
                continue
            if looked_up["in"] == "header" and is_dropped_field(looked_up["name"], self._facts):
                continue
            part = self._rewriting.part("parameter", parameter)
            if part is not DROPPED:
                found.append(part)
        return found

    def _responses(self, given: Any) -> dict[str, Any]:
        """Written out, as each gets fields that the gateway adds."""
        found = {}
        for status, response in given.items() if isinstance(given, dict) else []:
            if status.startswith("x-"):
                found[status] = response
                continue
            written_out = self._rewriting.dereferenced("response", response)
            part = self._rewriting.part("response", response if written_out is None else written_out)
            if part is not DROPPED:
                found[status] = part
        return found

    def _tag_names(self, given: Any) -> list[str]:
        tags = [tag for tag in given if isinstance(tag, str)] if isinstance(given, list) else []
        self._tags.update(dict.fromkeys(tags))
        # One that has none stands under its service.
        return list(dict.fromkeys(tag_name(self._part.name, tag) for tag in tags)) or [self._part.name]
