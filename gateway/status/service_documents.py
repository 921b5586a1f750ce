"""The states of the services' API documents, and the drift: where the documents and the configuration disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.api_documents.catalog import Catalog, Snapshot
from gateway.api_documents.document_state import DocumentState
from gateway.api_documents.refresher import DocumentRefresher
from gateway.openapi import drifts
from gateway.timestamps import iso

# Nobody would read a page with thousands of them.
MAX_DRIFTS = 200


@dataclass(frozen=True, slots=True)
class Drifts:
    """The drifts of a snapshot of the documents, cached until there is another snapshot. `first` has up to MAX_DRIFTS
    of them."""

    snapshot: Snapshot
    count: int
    first: list[dict[str, str]]


class ServiceDocuments:
    """Describes the documents. With `is_shown` false (`docs.enabled = false`), documents are not fetched for the status
    page."""

    def __init__(self, catalog: Catalog, refresher: DocumentRefresher, is_shown: bool) -> None:
        self._catalog = catalog
        self._refresher = refresher
        self._is_shown = is_shown
        self._drifts: Drifts | None = None

    def start(self) -> None:
        """Starts fetching the documents; the first request of the status page calls this."""
        if self._is_shown:
            self._refresher.start()

    def describe(self, now: float) -> dict[str, Any]:
        """Returns the states of the documents and the drifts. `now` is in seconds since 1970. Call this in a native
        thread: comparing new documents takes CPU time."""
        snapshot, known = self._catalog.snapshot, self._refresher.known
        if self._drifts is None or self._drifts.snapshot is not snapshot:
            found = drifts(snapshot.parts)
            first = [
                {
                    "service": one.service,
                    "policy": one.policy,
                    "method": one.method,
                    "path": one.path,
                    "what": one.kind.value,
                }
                for one in found[:MAX_DRIFTS]
            ]
            self._drifts = Drifts(snapshot, len(found), first)
        return {
            "services": [describe_document(name, known.get(name), now) for name in self._refresher.names],
            "drift": {
                "compared": sum(part.document is not None for part in snapshot.parts),
                "count": self._drifts.count,
                "first": self._drifts.first,
            },
        }


def describe_document(service: str, document: DocumentState | None, now: float) -> dict[str, Any]:
    if document is None:
        unknown = dict.fromkeys(("checked_seconds_ago", "stale_since", "failure"))
        return {"service": service, "state": "not fetched", **unknown}
    is_stale = document.stale_since is not None
    return {
        "service": service,
        "state": "unavailable" if not document.version else "stale" if is_stale else "current",
        "checked_seconds_ago": round(max(0.0, now - document.checked_at), 1),
        "stale_since": iso(document.stale_since) if document.stale_since is not None else None,
        "failure": document.failure or None,
    }
