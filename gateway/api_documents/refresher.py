"""Refreshes the services' documents in a background thread of each worker. One worker at a time fetches a document; the
others read it from Redis. Without Redis each worker fetches for itself."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import sha256
from threading import Condition, Lock, Thread
from typing import Protocol

from gateway.api_documents.document_state import DocumentState
from gateway.api_documents.early_refresh import COOLDOWN_SECONDS, MAX_WAIT_SECONDS, RETRY_SECONDS, EarlyRefresh
from gateway.api_documents.fetch_lock import FetchLock
from gateway.api_documents.store import DocumentStore
from gateway.document_fetch import Document, FetchError
from gateway.redis.client import FAILURES
from gateway.system.threads import PerProcessThread, TaskGroup

# How often a worker reads from Redis what others have fetched. Jitter keeps workers from reading at the same time.
READ_SECONDS = 2.0
# How often a worker reads until it knows the state of every document: requests may be waiting for the documents.
FIRST_READ_SECONDS = 0.1
# Documents that were fetched are published after this time, even while other services have not responded yet.
PUBLISH_SECONDS = 1.0
CONCURRENT_FETCHES = 8

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where a service's document comes from. `key` identifies it in Redis, with all that the document depends on."""

    @property
    def key(self) -> str: ...
    @property
    def max_bytes(self) -> int: ...

    def fetch(self, headers: Mapping[str, str]) -> Document:
        """Requests the document with these headers. Raises FetchError."""

    def check(self, content: bytes) -> None:
        """Raises FetchError if the content is not a document."""


class DocumentRefresher:
    """Keeps the documents of all services fresh. `sources` are by the names of their services. `on_change` is called in
    the refresher's thread, with the states and contents of all documents, whenever a document has changed. `clock`
    returns seconds since 1970, `jitter` numbers from 0 to 1. Early refreshes of a document are at least
    `cooldown_seconds` apart."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        store: DocumentStore | None,
        refresh_seconds: float,
        on_change: Callable[[Mapping[str, DocumentState], Mapping[str, bytes]], None],
        clock: Callable[[], float],
        jitter: Callable[[], float],
        cooldown_seconds: float = COOLDOWN_SECONDS,
    ) -> None:
        self._sources = sources
        self._store = store
        self._lock = FetchLock(store)
        self._refresh_seconds = refresh_seconds
        self._on_change = on_change
        self._clock = clock
        self._jitter = jitter
        self._states: dict[str, DocumentState] = {}
        self._contents: dict[str, bytes] = {}
        self._published: dict[str, DocumentState] | None = None
        self._thread = PerProcessThread("documents", self._run)
        # When the thread began. Infinite until then, so that requests wait for their full time.
        self._started_at = math.inf
        self._has_all_states = False
        self._changed = Condition()
        self._cooldown_seconds = cooldown_seconds
        # Held during a fetch, so that this worker never fetches a document twice at the same time.
        self._fetching = {name: Lock() for name in sources}
        self._early_refreshes: dict[str, EarlyRefresh] = {}
        # The early refreshes that have fetched, but whose result is not published yet.
        self._fetched_early: list[EarlyRefresh] = []

    @property
    def names(self) -> list[str]:
        """The services whose documents are refreshed."""
        return list(self._sources)

    @property
    def known(self) -> Mapping[str, DocumentState]:
        """The states of the documents that any worker has fetched or tried to fetch."""
        return dict(self._states)

    def start(self) -> None:
        """Starts the thread of this process, once. Must not be called before the fork."""
        self._thread.start()

    def wait_for_first(self, seconds: float) -> None:
        """Waits until the state of every document is known, but no longer than this time after the start of the
        refresher: a service that hangs must not delay the documents of the others."""
        self.start()
        if not self._has_all_states:
            with self._changed:
                left = min(seconds, self._started_at + seconds - time.monotonic())
                self._changed.wait_for(lambda: self._has_all_states, left)

    def refresh_early(self, name: str) -> EarlyRefresh:
        """Fetches the document of this service in the background, even if it is not due. But if an early refresh of it
        is still running, or started less than the cooldown ago, returns that early refresh and starts none."""
        self.start()
        with self._changed:
            last = self._early_refreshes.get(name)
            if last is not None and not (last.ended.is_set() and last.age_seconds >= self._cooldown_seconds):
                return last
            early = self._early_refreshes[name] = EarlyRefresh()
        try:
            Thread(target=self._fetch_early, args=(name, early), daemon=True).start()
        except BaseException:
            early.ended.set()
            raise
        return early

    def read_store(self) -> None:
        """Publishes the documents that other workers have fetched, and fetches none."""
        self._read_store()
        self._publish()

    def has(self, name: str) -> bool:
        """Whether the document of this service is known."""
        return name in self._contents

    def seconds_until_refresh(self, name: str) -> int:
        """Whole seconds until the document of this service is fetched again, at least one."""
        state = self._states.get(name, DocumentState())
        left = state.checked_at + self._refresh_seconds - self._clock()
        return math.ceil(max(1.0, min(self._refresh_seconds, left)))

    def _run(self) -> None:
        self._started_at = time.monotonic()
        fetches = TaskGroup(CONCURRENT_FETCHES, self._changed)
        while True:
            try:
                self._refresh_due(fetches)
            except Exception:
                # Any exception: without this thread the documents would never be refreshed again.
                log.exception("refreshing the documents failed; it is tried again")
            pause = min(READ_SECONDS, self._refresh_seconds) if self._has_all_states else FIRST_READ_SECONDS
            with self._changed:
                self._changed.wait_for(self._has_unpublished, pause * (0.75 + 0.5 * self._jitter()))

    def _has_unpublished(self) -> bool:
        return bool(self._fetched_early)

    def _refresh_due(self, fetches: TaskGroup) -> None:
        if self._has_unpublished():
            # Before anything else, because requests wait for early refreshes.
            self._publish()
        self._read_store()
        now = self._clock()
        due = [name for name in self._sources if self._is_due(name, now)]
        fetches.begin(partial(self._refresh, name) for name in due)
        while not fetches.wait(PUBLISH_SECONDS, self._has_unpublished):
            self._publish()
        self._publish()
        # A document that another worker is fetching has no state here until that worker stores it.
        if all(name in self._states for name in self._sources):
            with self._changed:
                self._has_all_states = True
                self._changed.notify_all()

    def _is_due(self, name: str, now: float) -> bool:
        state = self._states.get(name)
        # A negative age means that the clock was set back: without this check the document might never be due.
        return state is None or not 0 <= now - state.checked_at < self._refresh_seconds

    def _read_store(self) -> None:
        """Reads newer states and contents of other workers from Redis."""
        if self._store is None:
            return
        try:
            names = {source.key: name for name, source in self._sources.items()}
            for key, state in self._store.read(names).items():
                name = names[key]
                known = self._states.get(name)
                if known is not None and known.checked_at >= state.checked_at:
                    continue
                if state.version and (known is None or known.version != state.version):
                    content = self._store.content(key, state.version, self._sources[name].max_bytes)
                    if content is None:
                        # Without its content the state is useless: this worker fetches the document itself.
                        continue
                    self._contents[name] = content
                self._states[name] = state
        except FAILURES as error:
            log.debug("the documents in Redis can't be read: %s", error)

    def _refresh(self, name: str) -> None:
        """Fetches a document that is due, unless another worker does."""
        with self._fetching[name]:
            if self._lock.acquire(self._sources[name].key):
                self._fetch_locked(name, lambda: self._is_due(name, self._clock()))

    def _fetch_early(self, name: str, early: EarlyRefresh) -> None:
        """Fetches a document even if it is not due. If a fetch of the document is running, waits for its end first:
        that fetch may have started before the service had the operation."""
        source = self._sources[name]
        try:
            with self._fetching[name]:
                while not self._lock.acquire(source.key):
                    if early.age_seconds > MAX_WAIT_SECONDS:
                        return
                    time.sleep(RETRY_SECONDS)
                self._fetch_locked(name, lambda: self._lock.begin_early_refresh(source.key, self._cooldown_seconds))
        finally:
            with self._changed:
                self._fetched_early.append(early)
                self._changed.notify_all()

    def _fetch_locked(self, name: str, is_needed: Callable[[], bool]) -> None:
        # Another worker may have fetched the document and released the lock since this worker last read from Redis.
        self._read_store()
        if is_needed():
            self._fetch(name)
        else:
            self._lock.release(self._sources[name].key)

    def _fetch(self, name: str) -> None:
        source = self._sources[name]
        before = self._states.get(name, DocumentState())
        now = self._clock()
        try:
            document = source.fetch(before.validators)
            content = document.content
            if content is not None:
                source.check(content)
        except Exception as error:
            # Any exception: the state must become known to all workers, and the lock must be released.
            state, content = before.after_failure(str(error) or type(error).__name__, now), None
            if not before.failure:
                is_expected = isinstance(error, FetchError)
                text = "the document of %s could not be fetched: %s"
                log.warning(text, name, error, exc_info=None if is_expected else error)
        else:
            state = replace(before, checked_at=now, stale_since=None, failure="")
            if content is not None:
                version = sha256(content).hexdigest()
                etag, modified = document.fields.get("ETag", ""), document.fields.get("Last-Modified", "")
                state = replace(state, version=version, etag=etag, last_modified=modified)
                content = content if version != before.version else None
            if before.failure:
                log.warning("the document of %s can be fetched again", name)
        if content is not None:
            self._contents[name] = content
        self._states[name] = state
        self._lock.publish(source.key, state, content)

    def _publish(self) -> None:
        """Calls `on_change` if a document has changed, then ends the early refreshes whose results it included."""
        with self._changed:
            fetched_early, self._fetched_early = self._fetched_early, []
        try:
            states = dict(self._states)
            if self._published is None or any(
                has_changed(self._published.get(name), states.get(name)) for name in self._sources
            ):
                self._on_change(states, dict(self._contents))
                self._published = states
        finally:
            for early in fetched_early:
                early.ended.set()
            with self._changed:
                self._changed.notify_all()


def has_changed(before: DocumentState | None, after: DocumentState | None) -> bool:
    """Whether the difference changes the merged document. The time of the last check does not."""
    before, after = before or DocumentState(), after or DocumentState()
    return (before.version, before.stale_since) != (after.version, after.stale_since)
