"""Requests that no document of their service knows of: told in the log, or refused."""

from __future__ import annotations

from gateway import context
from gateway.api_documents.catalog import Catalog
from gateway.api_documents.refresher import DocumentRefresher
from gateway.errors import Undocumented
from gateway.telemetry.metrics.registry import Metrics


class OperationCheck:
    """`check` guards what is `undocumented = "log"` or `"refuse"`. Where a service's document was never had, everything
    passes: a document that is missing must not take its service down."""

    def __init__(self, catalog: Catalog, refresher: DocumentRefresher, metrics: Metrics) -> None:
        self._catalog = catalog
        self._refresher = refresher
        self._metrics = metrics

    def check(self) -> None:
        """Raises Undocumented."""
        exchange = context.current()
        policy = exchange.policy
        if policy is None or policy.undocumented == "allow" or exchange.target is None:
            return
        self._refresher.start()
        path = policy.prefix.document_path(exchange.target.path)
        if self._may_exist(policy.service, exchange.method, path):
            return
        # The service may have it since its document was last fetched.
        renewal = self._refresher.begin_renewal(policy.service)
        if policy.undocumented == "refuse":
            renewal.wait()
            if self._may_exist(policy.service, exchange.method, path):
                return
        exchange.is_undocumented = True
        self._metrics.undocumented.labels(policy.service, policy.undocumented).inc()
        if policy.undocumented == "refuse":
            raise Undocumented()

    def _may_exist(self, service: str, method: str, path: str) -> bool:
        documented = self._catalog.shelf.documented.get(service)
        return documented is None or documented.knows(method, path)
