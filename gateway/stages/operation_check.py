"""Compares requests with the API document of their service; undocumented ones are logged or refused."""

from __future__ import annotations

from gateway import context
from gateway.api_documents.catalog import Catalog
from gateway.api_documents.refresher import DocumentRefresher
from gateway.errors import Undocumented
from gateway.telemetry.metrics.registry import Metrics


class OperationCheck:
    """`check` guards routes with `undocumented = "log"` or `"refuse"`. Until the service's document has been fetched
    for the first time, all requests pass: a missing document must not make its service unavailable."""

    def __init__(self, catalog: Catalog, refresher: DocumentRefresher, metrics: Metrics) -> None:
        self._catalog = catalog
        self._refresher = refresher
        self._metrics = metrics

    def check(self) -> None:
        """Raises Undocumented if the route refuses undocumented requests."""
        exchange = context.current()
        policy = exchange.policy
        if policy is None or policy.undocumented == "allow" or exchange.target is None:
            return
        self._refresher.start()
        path = policy.prefix.document_path(exchange.target.path)
        if self._may_exist(policy.service, exchange.method, path):
            return
        # Fetches the document early: the operation may be newer than the stored document.
        refresh = self._refresher.refresh_early(policy.service)
        if policy.undocumented == "refuse":
            refresh.wait()
            if self._may_exist(policy.service, exchange.method, path):
                return
        exchange.is_undocumented = True
        self._metrics.undocumented.labels(policy.service, policy.undocumented).inc()
        if policy.undocumented == "refuse":
            raise Undocumented()

    def _may_exist(self, service: str, method: str, path: str) -> bool:
        index = self._catalog.snapshot.operations.get(service)
        return index is None or index.knows(method, path)
