"""Lets one worker at a time fetch a document, of all workers that share a Redis. Without Redis, or while it fails, each
worker fetches for itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from gateway.api_documents.document_state import DocumentState
from gateway.api_documents.store import DocumentStore
from gateway.document_fetch import TOTAL_SECONDS
from gateway.redis.client import FAILURES

# How long a worker that died while it held the lock blocks the others.
LOCK_SECONDS = TOTAL_SECONDS + 1

log = logging.getLogger(__name__)


class FetchLock:
    """One lock per source, by the key of the source."""

    def __init__(self, store: DocumentStore | None) -> None:
        self._store = store

    def acquire(self, source: str) -> bool:
        """Whether this worker may fetch now. If so, it must call `release` or `publish` afterwards."""
        return self._ask(lambda store: store.lock_fetch(source, LOCK_SECONDS))

    def begin_early_refresh(self, source: str, cooldown_seconds: float) -> bool:
        """Whether this worker, which holds the lock, may refresh the document early: none did within the cooldown."""
        return self._ask(lambda store: store.begin_cooldown(source, cooldown_seconds))

    def publish(self, source: str, state: DocumentState, content: bytes | None) -> None:
        """Stores the result of a fetch, then releases the lock. `content` is None if it has not changed."""
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
        """The answer of the store; True without Redis, or if it fails."""
        with suppress(*FAILURES):
            return self._store is None or question(self._store)
        return True
