"""Drift: where the services' documents and the configuration disagree about tokens and routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gateway.openapi.inputs import ServiceDocument
from gateway.openapi.object_types import METHODS
from gateway.openapi.operation_policy import PolicyTable, policy_table
from gateway.openapi.path_filter import path_matcher
from gateway.openapi.path_mapping import PathMapping
from gateway.openapi.references import References
from gateway.route_policy import RoutePolicy


class Kind(Enum):
    """The kinds of disagreement. The setting `drift_ignore` has their names in lower case."""

    PROTECTED_BUT_OPEN = "the service requires credentials, but the gateway forwards requests without a token"
    OPEN_BUT_PROTECTED = "the service requires no credentials, but the gateway requires a token"
    ROUTE_WITHOUT_OPERATION = "the route is configured, but no operation in the service's document has its policy"
    UNREACHABLE_OPERATION = "the operation is in the service's document, but the gateway does not forward to it"


@dataclass(frozen=True, slots=True)
class Drift:
    """One disagreement. `method` is in upper case; for a route it has all methods of the route, separated by commas,
    and is empty if the route is for any method. `policy` is the name of the policy, empty if there is none."""

    kind: Kind
    service: str
    policy: str
    method: str
    path: str

    @property
    def line(self) -> str:
        """The disagreement as a line of text: `devices: GET /api/devices (policy devices): … [open_but_protected]`."""
        place = f"{self.method} {self.path}".strip()
        policy = f" (policy {self.policy})" if self.policy else ""
        return f"{self.service}: {place}{policy}: {self.kind.value} [{self.kind.name.lower()}]"


@dataclass(frozen=True, slots=True)
class MappedOperation:
    """An operation of a service's document, and its policy at the gateway. `policy` is None if the gateway does not
    forward requests for `path` to the service."""

    method: str
    path: str
    content: Mapping[str, Any]
    policy: RoutePolicy | None


def drifts(parts: Sequence[ServiceDocument]) -> list[Drift]:
    """The disagreements of all services whose documents are known, in the order of `parts` and of their documents.
    Includes hidden services and paths, because the result is for operators. Excludes disagreements that a service's
    `drift_ignore` matches. Raises nothing for documents that `parse_document` returned."""
    table = policy_table(parts)
    found = []
    for part in parts:
        if part.document is not None:
            is_ignored = ignore_filter(part.drift_ignore)
            found += [drift for drift in drifts_of(part, part.document, table) if not is_ignored(drift)]
    return found


def drifts_of(part: ServiceDocument, document: Mapping[str, Any], table: PolicyTable) -> Iterator[Drift]:
    policies_seen = set()
    for operation in mapped_operations(part, document, table):
        policy, method, path = operation.policy, operation.method, operation.path
        if policy is None:
            # No drift if it is the health check or the document: the gateway requests these itself, no client does.
            if path not in part.internal_paths:
                yield Drift(Kind.UNREACHABLE_OPERATION, part.name, "", method, path)
            continue
        policies_seen.add(policy.name)
        is_protected = requires_credentials(operation.content.get("security", document.get("security")))
        if is_protected and not policy.needs_token:
            yield Drift(Kind.PROTECTED_BUT_OPEN, part.name, policy.name, method, path)
        elif policy.needs_token and not is_protected:
            yield Drift(Kind.OPEN_BUT_PROTECTED, part.name, policy.name, method, path)
    for policy in part.policies:
        # The policy of the service itself is for all paths without a route, so it may have no operation.
        if policy.name not in policies_seen and policy.name != part.name:
            yield Drift(Kind.ROUTE_WITHOUT_OPERATION, part.name, policy.name, ",".join(policy.methods), policy.path)


def ignore_filter(rules: Sequence[str]) -> Callable[[Drift], bool]:
    """A function that says whether the rules ignore a drift. A rule is the name of a kind, optionally followed by a
    pattern of paths as in `docs.hidden`."""
    patterns: dict[str, list[str]] = {}
    for rule in rules:
        kind, _, pattern = rule.partition(" ")
        patterns.setdefault(kind.upper(), []).append(pattern or "/**")
    matchers = {kind: path_matcher(of_kind) for kind, of_kind in patterns.items()}

    def is_ignored(drift: Drift) -> bool:
        matches = matchers.get(drift.kind.name)
        return matches is not None and matches(drift.path)

    return is_ignored


def reachable_operations(
    part: ServiceDocument, document: Mapping[str, Any], table: PolicyTable
) -> Iterator[MappedOperation]:
    """The operations of the document to which the gateway forwards requests."""
    return (operation for operation in mapped_operations(part, document, table) if operation.policy is not None)


def mapped_operations(
    part: ServiceDocument, document: Mapping[str, Any], table: PolicyTable
) -> Iterator[MappedOperation]:
    """All operations of the document. `path` is the path at which clients call the operation; if no path of the gateway
    leads to it, the path in the document."""
    mapping, references, paths = PathMapping(part), References(dict(document)), document.get("paths")
    for template, given in paths.items() if isinstance(paths, dict) else []:
        # Other keys are extensions, which begin with x-.
        if not isinstance(given, dict) or not template.startswith("/"):
            continue
        item = given
        if isinstance(reference := given.get("$ref"), str) and (found := references.find(reference)):
            item = (found.node if isinstance(found.node, dict) else {}) | given
        by_path = mapping.methods_by_path(template, item)
        mapped = {method for methods in by_path.values() for method in methods}
        for path, methods in by_path.items():
            for method in methods:
                policy = table.policy_for(method, path)
                is_own = policy is not None and policy.service == part.name
                yield MappedOperation(method.upper(), path, item[method], policy if is_own else None)
        for method in METHODS:
            if method not in mapped and isinstance(item.get(method), dict):
                yield MappedOperation(method.upper(), template, item[method], None)


def requires_credentials(security: Any) -> bool:
    """Whether this `security` requires credentials (OpenAPI 3.1.1 4.8.30). It does not if the list, or one of the
    alternatives in it, is empty."""
    if not isinstance(security, list):
        return False
    alternatives = [one for one in security if isinstance(one, dict)]
    return bool(alternatives) and all(alternatives)
