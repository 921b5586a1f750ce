"""What is known of the services' documents, and where they and the configuration disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.api_documents.catalog import Catalog, Snapshot
from gateway.api_documents.document_state import DocumentState
from gateway.api_documents.refresher import DocumentRefresher
from gateway.openapi import drifts
from gateway.timestamps import iso

# A page with thousands of them would not be read.
MOST_DRIFTS = 200


@dataclass(frozen=True, slots=True)
class Drifts:
    """The disagreements of what was on a shelf: found once, not each time that somebody looks."""

    shelf: Snapshot
    count: int
    told: list[dict[str, str]]


class DocumentsWatch:
    """`refresher` is started by whoever looks, where documents are shown at all: it is then that they are fetched."""

    def __init__(self, catalog: Catalog, refresher: DocumentRefresher, is_shown: bool) -> None:
        self._catalog = catalog
        self._refresher = refresher
        self._is_shown = is_shown
        self._found: Drifts | None = None

    def start(self) -> None:
        if self._is_shown:
            self._refresher.start()

    def described(self, now: float) -> dict[str, Any]:
        """`now` is seconds since 1970. To be called aside: it takes time where there is a new document."""
        shelf, known = self._catalog.shelf, self._refresher.known
        if self._found is None or self._found.shelf is not shelf:
            found = drifts(shelf.parts)
            self._found = Drifts(
                shelf,
                len(found),
                [
                    {
                        "service": one.service,
                        "policy": one.policy,
                        "method": one.method,
                        "path": one.path,
                        "what": one.kind.value,
                    }
                    for one in found[:MOST_DRIFTS]
                ],
            )
        return {
            "services": [described(name, known.get(name), now) for name in self._refresher.names],
            "drift": {
                "compared": sum(part.document is not None for part in shelf.parts),
                "count": self._found.count,
                "first": self._found.told,
            },
        }


def described(name: str, kept: DocumentState | None, now: float) -> dict[str, Any]:
    state = "not asked"
    if kept is not None:
        state = "unavailable" if not kept.version else "stale" if kept.stale_since is not None else "current"
    return {
        "service": name,
        "state": state,
        "checked_seconds_ago": None if kept is None else round(max(0.0, now - kept.checked_at), 1),
        "stale_since": None if kept is None or kept.stale_since is None else iso(kept.stale_since),
        "failure": None if kept is None else kept.failure or None,
    }
