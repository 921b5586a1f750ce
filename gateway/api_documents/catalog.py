"""The catalog: documents that were merged, rendered and compressed once, and are served as they are."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from gateway.api_documents.document_state import DocumentState
from gateway.api_documents.operation_index import OperationIndex
from gateway.api_documents.sources import ServiceSource
from gateway.openapi import DROPPED_PARTS, GatewayFacts, ServiceDocument, document_of, merge
from gateway.system.native_threads import run_in_native_thread

# The most left-out parts that one log line lists.
MAX_LOGGED = 3
# Level 9 would take three times as long and save another two percent.
COMPRESSION_LEVEL = 6

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RenderedDocument:
    """A document as bytes, plain and compressed. `digest` is a hash of `content`, for entity tags."""

    content: bytes
    compressed: bytes
    digest: str

    @classmethod
    def of(cls, content: bytes, compression_level: int = COMPRESSION_LEVEL) -> RenderedDocument:
        # mtime=0: without the time of the compression, all workers make the same bytes.
        compressed = gzip.compress(content, compression_level, mtime=0)
        return cls(content, compressed, sha256(content).hexdigest()[:32])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was made from the documents that were known at one time."""

    # Each service's document by the service's name, and the merged document of all services under "".
    documents: Mapping[str, RenderedDocument] = field(default_factory=dict)
    # The list of services for the API page.
    index: RenderedDocument | None = None
    # By service, only for services whose requests are compared with their documents.
    operations: Mapping[str, OperationIndex] = field(default_factory=dict)
    parts: Sequence[ServiceDocument] = ()
    # By service, the parts of its document that the merged document leaves out.
    dropped: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)


class Catalog:
    """Makes and holds the current snapshot. `sources` are in the order of the configuration. `checked_services` are the
    services whose requests are compared with their documents."""

    def __init__(
        self, sources: Mapping[str, ServiceSource], facts: GatewayFacts, checked_services: Collection[str]
    ) -> None:
        self._sources = sources
        self._facts = facts
        self._checked_services = checked_services
        # The services that clients see, with or without a document.
        self.names: Set[str] = frozenset(name for name, source in sources.items() if source.is_shown)
        self._dropped: dict[str, Any] = {}
        self.snapshot = Snapshot()

    def has_document(self, name: str) -> bool:
        """Whether the service is configured to have a document."""
        return self._sources[name].has_document

    def update(self, states: Mapping[str, DocumentState], contents: Mapping[str, bytes]) -> None:
        """Replaces the snapshot by a new one, at once for readers. Only one thread may call this at a time."""
        parts = [
            source.service_document(states.get(name), contents.get(name)) for name, source in self._sources.items()
        ]
        self.snapshot = run_in_native_thread(lambda: make_snapshot(parts, self._facts, self._checked_services))
        for name, dropped in self.snapshot.dropped.items():
            if dropped != self._dropped.get(name, []):
                self._dropped[name] = dropped
                log_dropped(name, dropped)


def make_snapshot(parts: Sequence[ServiceDocument], facts: GatewayFacts, checked_services: Collection[str]) -> Snapshot:
    merged = merge(parts, facts)
    documents = {"": render(merged)}
    for part in parts:
        document = document_of(part.name, parts, facts)
        if document is not None and part.document is not None:
            documents[part.name] = render(document)
    entries = merged["info"]["x-gateway-services"]
    services = [{"name": name, **entry} for name, entry in entries.items()]
    operations = {
        part.name: OperationIndex(part, parts)
        for part in parts
        if part.name in checked_services and part.document is not None
    }
    dropped = {
        name: entry.get(DROPPED_PARTS, []) for name, entry in entries.items() if entry["state"] in ("current", "stale")
    }
    return Snapshot(documents, render({"title": facts.title, "services": services}), operations, parts, dropped)


def log_dropped(name: str, dropped: Sequence[Mapping[str, str]]) -> None:
    """Logs the first parts that are left out. Their locations are escaped to ASCII, because the service wrote them."""
    if not dropped:
        log.warning("nothing of the document of %s is left out of the merged document any more", name)
        return
    first = "; ".join(f"{one['pointer']!a}: {one['reason']}" for one in dropped[:MAX_LOGGED])
    log.warning(
        "parts of the document of %s are left out of the merged document (%s of /openapi/%s.json lists them): %s%s",
        *(name, DROPPED_PARTS, name, first, "; …" if len(dropped) > MAX_LOGGED else ""),
    )


def render(document: Any) -> RenderedDocument:
    """The document as compact JSON."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return RenderedDocument.of(text.encode("utf-8", "surrogatepass"))
