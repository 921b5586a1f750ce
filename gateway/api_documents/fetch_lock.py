"""Lets only one of the workers that share a Redis fetch a document at a time. Without Redis, or while Redis fails, each
worker fetches for itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from gateway.api_documents.document_state import DocumentState
from gateway.api_documents.store import DocumentStore
from gateway.document_fetch import TOTAL_SECONDS
from gateway.redis.client import FAILURES

# The lock expires after this time, so that a worker that dies while it holds the lock does not block the others. It is
# longer than a fetch can take.
LOCK_SECONDS = TOTAL_SECONDS + 1

log = logging.getLogger(__name__)


class FetchLock:
    """Locks the fetches of documents. `source` is the key of a source; each source has its own lock."""

    def __init__(self, store: DocumentStore | None) -> None:
        self._store = store

    def acquire(self, source: str) -> bool:
        """Whether this worker may fetch now. If so, it must call `release` or `publish` afterwards."""
        return self._ask(lambda store: store.lock_fetch(source, LOCK_SECONDS))

    def begin_early_refresh(self, source: str, cooldown_seconds: float) -> bool:
        """Begins the cooldown of an early refresh, which may follow. False if a cooldown is running: then the document
        must not be refreshed early. The worker must hold the lock."""
        return self._ask(lambda store: store.begin_cooldown(source, cooldown_seconds))

    def publish(self, source: str, state: DocumentState, content: bytes | None) -> None:
        """Stores the result of a fetch, then releases the lock. `content` is None if there is no new content."""
        if self._store is None:
            return
        try:
            self._store.write(source, state, content)
        except FAILURES as error:
            log.debug("the document can't be stored in Redis: %s", error)
        else:
            self.release(source)

    def release(self, source: str) -> None:
        if self._store is not None:
            with suppress(*FAILURES):
                self._store.unlock_fetch(source)

    def _ask(self, question: Callable[[DocumentStore], bool]) -> bool:
        """What `question` returns. Without Redis, or if Redis fails, True: the worker fetches for itself."""
        with suppress(*FAILURES):
            return self._store is None or question(self._store)
        return True
