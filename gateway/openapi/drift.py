"""Where services' documents and the configuration disagree about tokens and routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gateway.openapi.matching import PolicyTable
from gateway.openapi.parts import ServiceDocument
from gateway.openapi.placing import Placing
from gateway.openapi.references import References
from gateway.policies import Policy


class Kind(Enum):
    """What a drift is about."""

    PROTECTED_BUT_OPEN = "the service asks for credentials, the gateway lets requests without a token through"
    OPEN_BUT_PROTECTED = "the service asks for no credentials, the gateway needs a token"
    ROUTE_WITHOUT_OPERATION = "configured, but no operation of the service's document gets this policy"


@dataclass(frozen=True, slots=True)
class Drift:
    """One disagreement. `method` is upper case, and empty for a route that is for all; `policy` is the policy's
    name."""

    kind: Kind
    service: str
    policy: str
    method: str
    path: str

    @property
    def line(self) -> str:
        """For people: `devices: GET /api/devices (policy devices): the service asks for …`."""
        place = f"{self.method} {self.path}".strip()
        return f"{self.service}: {place} (policy {self.policy}): {self.kind.value}"


def drifts(parts: Sequence[ServiceDocument]) -> list[Drift]:
    """The disagreements of all services whose documents are known, in the order of `parts` and of their documents,
    hidden ones too: it is operators who read this. Raises nothing for documents that `reading.read` returned."""
    table = PolicyTable(policy for part in parts for policy in part.policies)
    return [drift for part in parts if part.document is not None for drift in drifts_of(part, part.document, table)]


def drifts_of(part: ServiceDocument, document: Mapping[str, Any], table: PolicyTable) -> Iterator[Drift]:
    met = set()
    for method, path, operation, policy in operations_of(part, document, table):
        met.add(policy.name)
        is_protected = asks_for_credentials(operation.get("security", document.get("security")))
        if is_protected and not policy.needs_token:
            yield Drift(Kind.PROTECTED_BUT_OPEN, part.name, policy.name, method, path)
        elif policy.needs_token and not is_protected:
            yield Drift(Kind.OPEN_BUT_PROTECTED, part.name, policy.name, method, path)
    for policy in part.policies:
        # The service's own policy is for all that has no route.
        if policy.name not in met and policy.name != part.name:
            yield Drift(Kind.ROUTE_WITHOUT_OPERATION, part.name, policy.name, ",".join(policy.methods), policy.path)


def operations_of(
    part: ServiceDocument, document: Mapping[str, Any], table: PolicyTable
) -> Iterator[tuple[str, str, dict[str, Any], Policy]]:
    placing, references, paths = Placing(part), References(dict(document)), document.get("paths")
    for template, given in paths.items() if isinstance(paths, dict) else []:
        if not isinstance(given, dict):
            continue
        item = given
        if isinstance(reference := given.get("$ref"), str) and (found := references.find(reference)):
            item = (found.node if isinstance(found.node, dict) else {}) | given
        for path, methods in placing.methods_by_path(template, item).items():
            for method in methods:
                policy = table.policy_for(method, path)
                if policy is not None and policy.service == part.name:
                    yield method.upper(), path, item[method], policy


def asks_for_credentials(security: Any) -> bool:
    """By `security` (OpenAPI 3.1.1 4.8.30): an empty list and an empty alternative mean that none are needed."""
    if not isinstance(security, list):
        return False
    alternatives = [one for one in security if isinstance(one, dict)]
    return bool(alternatives) and all(alternatives)
