"""The finished documents: merged, written and compressed once, and sent as they are from then on."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from gateway.api_documents.document_state import DocumentState
from gateway.api_documents.operation_index import OperationIndex
from gateway.api_documents.sources import ServiceSource
from gateway.openapi import DROPPED_PARTS, GatewayFacts, ServiceDocument, document_of, merge
from gateway.system.native_threads import run_in_native_thread

# How many parts that are left out the log names.
LOGGED = 3
# Level 9 takes three times as long for two percent.
COMPRESSION = 6

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RenderedDocument:
    """A document as JSON, also compressed; `tag` is a hash of it, for entity tags."""

    content: bytes
    compressed: bytes
    tag: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known at a moment: the documents of all services (under "") and of each, the list of services for the
    page, the operations that there are, for the services that ask for them, and what the documents leave out."""

    documents: Mapping[str, RenderedDocument] = field(default_factory=dict)
    index: RenderedDocument | None = None
    documented: Mapping[str, OperationIndex] = field(default_factory=dict)
    parts: Sequence[ServiceDocument] = ()
    dropped: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)


class Catalog:
    """`sources` in the order of the configuration; `watched` are the services whose undocumented requests matter."""

    def __init__(self, sources: Mapping[str, ServiceSource], facts: GatewayFacts, watched: Sequence[str]) -> None:
        self._sources = sources
        self._facts = facts
        self._watched = watched
        self._names = frozenset(name for name, source in sources.items() if source.is_shown)
        self._dropped: dict[str, Any] = {}
        self.shelf = Snapshot()

    @property
    def names(self) -> Set[str]:
        """The services that are in the documents, whether theirs has been had or not."""
        return self._names

    def has_document(self, name: str) -> bool:
        """Whether this service has a document by the configuration."""
        return self._sources[name].has_document

    def update(self, known: Mapping[str, DocumentState], contents: Mapping[str, bytes]) -> None:
        """Makes everything anew. Called by one thread at a time; whoever reads sees the old shelf or the new one."""
        parts = [source.part(known.get(name), contents.get(name)) for name, source in self._sources.items()]
        self.shelf = run_in_native_thread(lambda: filled(parts, self._facts, self._watched))
        for name, dropped in self.shelf.dropped.items():
            if dropped != self._dropped.get(name, []):
                self._dropped[name] = dropped
                log_dropped(name, dropped)


def filled(parts: Sequence[ServiceDocument], facts: GatewayFacts, watched: Sequence[str]) -> Snapshot:
    """Everything that is made of what is known of the services."""
    whole = merge(parts, facts)
    documents = {"": finished(whole)}
    for part in parts:
        document = document_of(part.name, parts, facts)
        if document is not None and part.document is not None:
            documents[part.name] = finished(document)
    entries = whole["info"]["x-gateway-services"]
    services = [{"name": name, **entry} for name, entry in entries.items()]
    index = finished({"title": facts.title, "services": services})
    documented = {
        part.name: OperationIndex(part, parts) for part in parts if part.name in watched and part.document is not None
    }
    read = {name: entry for name, entry in entries.items() if entry["state"] in ("current", "stale")}
    dropped = {name: entry.get(DROPPED_PARTS, []) for name, entry in read.items()}
    return Snapshot(documents, index, documented, parts, dropped)


def log_dropped(name: str, dropped: Sequence[Mapping[str, str]]) -> None:
    """With the first few of what is listed in the document itself, as ASCII: the service chose the names."""
    if not dropped:
        log.warning("the whole document of %s is in the merged one again", name)
        return
    first = "; ".join(f"{one['pointer']!a}: {one['reason']}" for one in dropped[:LOGGED])
    log.warning(
        "parts of the document of %s are left out of the merged one (all are in %s of /openapi/%s.json): %s%s",
        *(name, DROPPED_PARTS, name, first, "; …" if len(dropped) > LOGGED else ""),
    )


def finished(document: Any) -> RenderedDocument:
    content = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    # Without a time in it, so that all workers' are the same.
    return RenderedDocument(content, gzip.compress(content, COMPRESSION, mtime=0), sha256(content).hexdigest()[:32])
