"""Which worker fetches a document: one at a time, of all that share a Redis; each of them where Redis fails or there is
none."""

from __future__ import annotations

import logging
from contextlib import suppress

from gateway.api_documents.document_state import DocumentState
from gateway.api_documents.store import DocumentStore
from gateway.document_fetch import TOTAL_SECONDS
from gateway.redis.client import FAILURES

# How long a worker that died in its turn holds up the others.
TURN_SECONDS = TOTAL_SECONDS + 1

log = logging.getLogger(__name__)


class Turns:
    """`source` is the key of a document's source."""

    def __init__(self, store: DocumentStore | None) -> None:
        self._store = store

    def begin(self, source: str) -> bool:
        """Whether this worker may fetch now; it has to `end` its turn then, or to `share` what it fetched."""
        if self._store is None:
            return True
        try:
            return self._store.may_fetch(source, TURN_SECONDS)
        except FAILURES:
            return True

    def may_renew(self, source: str, cooldown_seconds: float) -> bool:
        """Whether this worker, in its turn, may fetch before the time: none did within the cooldown."""
        if self._store is None:
            return True
        try:
            return self._store.may_renew(source, cooldown_seconds)
        except FAILURES:
            return True

    def share(self, source: str, kept: DocumentState, content: bytes | None) -> None:
        """Ends the turn with what came of it; `content` where it is new."""
        if self._store is None:
            return
        try:
            self._store.write(source, kept, content)
        except FAILURES as error:
            log.debug("documents can't be shared: %s", error)
        else:
            self.end(source)

    def end(self, source: str) -> None:
        if self._store is not None:
            with suppress(*FAILURES):
                self._store.has_fetched(source)
