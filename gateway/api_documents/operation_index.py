"""The index of a document's operations, which says whether the document describes a request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.openapi import ServiceDocument
from gateway.openapi.drift import reachable_operations
from gateway.openapi.operation_policy import policy_table
from gateway.openapi.path_filter import linear_expression

PLACEHOLDER = re.compile(r"\{[^{}/]*\}")


class OperationIndex:
    """The operations of one service's document, including hidden ones. `parts` are all services. A placeholder in a
    path matches one segment or a part of it."""

    def __init__(self, part: ServiceDocument, parts: Sequence[ServiceDocument]) -> None:
        assert part.document is not None  # noqa: S101 - for the type checker: the catalog indexes documents only
        table = policy_table(parts)
        self._exact: dict[str, set[str]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], set[str]]] = {}
        for operation in reachable_operations(part, part.document, table):
            path = operation.path.removesuffix("/")
            if "{" not in path:
                self._exact.setdefault(path, set()).add(operation.method)
            else:
                self._patterns.setdefault(path, (expression_of(path), set()))[1].add(operation.method)

    def knows(self, method: str, path: str) -> bool:
        """Whether the document has an operation for the request. `path` is the client's, decoded. A HEAD
        request needs an operation for HEAD or GET."""
        path = path.removesuffix("/")
        methods = {method, "GET"} if method == "HEAD" else {method}
        if not methods.isdisjoint(self._exact.get(path, ())):
            return True
        return any(
            not methods.isdisjoint(known) and pattern.fullmatch(path) for pattern, known in self._patterns.values()
        )


def expression_of(template: str) -> re.Pattern[str]:
    return re.compile(linear_expression(PLACEHOLDER.split(template), "[^/]+"))
