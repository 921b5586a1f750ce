"""Where services' documents and the configuration disagree about tokens and routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gateway.openapi.inputs import ServiceDocument
from gateway.openapi.operation_policy import PolicyTable
from gateway.openapi.path_filter import hider
from gateway.openapi.path_mapping import PathMapping
from gateway.openapi.references import References
from gateway.openapi.structure import METHODS
from gateway.route_policy import RoutePolicy


class Kind(Enum):
    """What a drift is about. In lower case the names are those of the setting `drift_ignore`."""

    PROTECTED_BUT_OPEN = "the service asks for credentials, the gateway lets requests without a token through"
    OPEN_BUT_PROTECTED = "the service asks for no credentials, the gateway needs a token"
    ROUTE_WITHOUT_OPERATION = "configured, but no operation of the service's document gets this policy"
    UNREACHABLE_OPERATION = "in the service's document, but no mapping of the gateway leads there"


@dataclass(frozen=True, slots=True)
class Drift:
    """One disagreement. `method` is upper case, and empty for a route that is for all; `policy` is the policy's name,
    empty where there is none."""

    kind: Kind
    service: str
    policy: str
    method: str
    path: str

    @property
    def line(self) -> str:
        """For people: `devices: GET /api/devices (policy devices): the service asks for … [open_but_protected]`."""
        place = f"{self.method} {self.path}".strip()
        policy = f" (policy {self.policy})" if self.policy else ""
        return f"{self.service}: {place}{policy}: {self.kind.value} [{self.kind.name.lower()}]"


@dataclass(frozen=True, slots=True)
class PlacedOperation:
    """An operation of a service's document at the gateway. Where no request for `path` is forwarded to the service,
    `policy` is None."""

    method: str
    path: str
    content: Mapping[str, Any]
    policy: RoutePolicy | None


def drifts(parts: Sequence[ServiceDocument]) -> list[Drift]:
    """The disagreements of all services whose documents are known, in the order of `parts` and of their documents,
    hidden ones too: it is operators who read this. Those that a service's `drift_ignore` names are left out. Raises
    nothing for documents that `reading.read` returned."""
    table = PolicyTable(policy for part in parts for policy in part.policies)
    found = []
    for part in parts:
        if part.document is not None:
            is_ignored = ignorer(part.drift_ignore)
            found += [drift for drift in drifts_of(part, part.document, table) if not is_ignored(drift)]
    return found


def drifts_of(part: ServiceDocument, document: Mapping[str, Any], table: PolicyTable) -> Iterator[Drift]:
    met = set()
    for operation in placed_operations(part, document, table):
        policy, method, path = operation.policy, operation.method, operation.path
        if policy is None:
            # What the gateway asks a service for by itself needs no mapping.
            if path not in part.internal_paths:
                yield Drift(Kind.UNREACHABLE_OPERATION, part.name, "", method, path)
            continue
        met.add(policy.name)
        is_protected = asks_for_credentials(operation.content.get("security", document.get("security")))
        if is_protected and not policy.needs_token:
            yield Drift(Kind.PROTECTED_BUT_OPEN, part.name, policy.name, method, path)
        elif policy.needs_token and not is_protected:
            yield Drift(Kind.OPEN_BUT_PROTECTED, part.name, policy.name, method, path)
    for policy in part.policies:
        # The service's own policy is for all that has no route.
        if policy.name not in met and policy.name != part.name:
            yield Drift(Kind.ROUTE_WITHOUT_OPERATION, part.name, policy.name, ",".join(policy.methods), policy.path)


def ignorer(rules: Sequence[str]) -> Callable[[Drift], bool]:
    """Whether a drift is one that the rules leave out. A rule is a kind, and perhaps a pattern of paths as those of
    `docs.hidden` are."""
    patterns: dict[str, list[str]] = {}
    for rule in rules:
        kind, _, pattern = rule.partition(" ")
        patterns.setdefault(kind.upper(), []).append(pattern or "/**")
    matchers = {kind: hider(of_kind) for kind, of_kind in patterns.items()}

    def is_ignored(drift: Drift) -> bool:
        matches = matchers.get(drift.kind.name)
        return matches is not None and matches(drift.path)

    return is_ignored


def reachable_operations(
    part: ServiceDocument, document: Mapping[str, Any], table: PolicyTable
) -> Iterator[PlacedOperation]:
    """Those that requests at the gateway can get to."""
    return (operation for operation in placed_operations(part, document, table) if operation.policy is not None)


def placed_operations(
    part: ServiceDocument, document: Mapping[str, Any], table: PolicyTable
) -> Iterator[PlacedOperation]:
    """All operations of the document. `path` is the gateway's, or the document's own where the gateway has none."""
    placing, references, paths = PathMapping(part), References(dict(document)), document.get("paths")
    for template, given in paths.items() if isinstance(paths, dict) else []:
        # Beside paths there are extensions, whose names begin with x-.
        if not isinstance(given, dict) or not template.startswith("/"):
            continue
        item = given
        if isinstance(reference := given.get("$ref"), str) and (found := references.find(reference)):
            item = (found.node if isinstance(found.node, dict) else {}) | given
        by_path = placing.methods_by_path(template, item)
        placed = {method for methods in by_path.values() for method in methods}
        for path, methods in by_path.items():
            for method in methods:
                policy = table.policy_for(method, path)
                is_own = policy is not None and policy.service == part.name
                yield PlacedOperation(method.upper(), path, item[method], policy if is_own else None)
        for method in METHODS:
            if method not in placed and isinstance(item.get(method), dict):
                yield PlacedOperation(method.upper(), template, item[method], None)


def asks_for_credentials(security: Any) -> bool:
    """By `security` (OpenAPI 3.1.1 4.8.30): an empty list and an empty alternative mean that none are needed."""
    if not isinstance(security, list):
        return False
    alternatives = [one for one in security if isinstance(one, dict)]
    return bool(alternatives) and all(alternatives)
