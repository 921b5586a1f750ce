"""Which requests a service's document knows of."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.openapi import ServiceDocument
from gateway.openapi.drift import reachable_operations
from gateway.openapi.operation_policy import PolicyTable

PLACEHOLDER = re.compile(r"\{[^{}/]*\}")


class OperationIndex:
    """The operations of one service, hidden ones too. A placeholder stands for one segment or a part of it."""

    def __init__(self, part: ServiceDocument, parts: Sequence[ServiceDocument]) -> None:
        assert part.document is not None  # noqa: S101 - without one there is nothing to compare with
        table = PolicyTable(policy for one in parts for policy in one.policies)
        self._exact: dict[str, set[str]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], set[str]]] = {}
        for operation in reachable_operations(part, part.document, table):
            path = operation.path.removesuffix("/")
            if "{" not in path:
                self._exact.setdefault(path, set()).add(operation.method)
            else:
                self._patterns.setdefault(path, (expression_of(path), set()))[1].add(operation.method)

    def knows(self, method: str, path: str) -> bool:
        """Whether there is such an operation; `path` is decoded, as clients call it. HEAD is known where GET is."""
        path = path.removesuffix("/")
        methods = {method, "GET"} if method == "HEAD" else {method}
        if not methods.isdisjoint(self._exact.get(path, ())):
            return True
        return any(
            not methods.isdisjoint(known) and pattern.fullmatch(path) for pattern, known in self._patterns.values()
        )


def expression_of(template: str) -> re.Pattern[str]:
    """Matches in linear time, however many placeholders a service writes into one segment: each ends where what follows
    it is met first, and that is never tried again."""
    first, *pieces = map(re.escape, PLACEHOLDER.split(template))
    if not pieces:
        return re.compile(first)
    between = "".join(f"(?>[^/]+?{piece})" for piece in pieces[:-1])
    return re.compile(f"{first}{between}[^/]+{pieces[-1]}")
