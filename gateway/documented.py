"""Requests that no document of their service knows of: told in the log, or refused."""

from __future__ import annotations

from collections.abc import Mapping

from gateway import context
from gateway.config import ServiceSettings
from gateway.documents.keeper import DocumentKeeper
from gateway.documents.library import Library
from gateway.errors import Undocumented
from gateway.metrics.registry import Metrics


class DocumentedOnly:
    """`check` guards the services that are `undocumented = "log"` or `"refuse"`. Where a service's document was never
    had, everything passes: a document that is missing must not take its service down."""

    def __init__(
        self, services: Mapping[str, ServiceSettings], library: Library, keeper: DocumentKeeper, metrics: Metrics
    ) -> None:
        self._modes = {name: one.undocumented for name, one in services.items() if one.undocumented != "allow"}
        self._library = library
        self._keeper = keeper
        self._metrics = metrics

    @property
    def watched(self) -> frozenset[str]:
        return frozenset(self._modes)

    def check(self) -> None:
        """Raises Undocumented."""
        exchange = context.current()
        service = exchange.policy.service if exchange.policy else ""
        if service not in self._modes or exchange.target is None:
            return
        self._keeper.start()
        documented = self._library.shelf.documented.get(service)
        if documented is None or documented.knows(exchange.method, exchange.target.path):
            return
        mode = self._modes[service]
        exchange.is_undocumented = True
        self._metrics.undocumented.labels(service, mode).inc()
        if mode == "refuse":
            raise Undocumented()
