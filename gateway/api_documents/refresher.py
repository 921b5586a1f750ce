"""Keeps the services' documents fresh, in a thread of each worker; of all workers, one at a time fetches each document.

What one worker fetched the others find in Redis. Without Redis each worker fetches for itself.
"""

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
from gateway.api_documents.fetch_lock import Turns
from gateway.api_documents.renewal import COOLDOWN_SECONDS, TURN_LOOK_SECONDS, WAIT_SECONDS, Renewal
from gateway.api_documents.store import DocumentStore
from gateway.document_fetch import Document, FetchError
from gateway.redis.client import FAILURES
from gateway.system.threads import PerProcessThread, TaskGroup

# How often a worker looks into Redis for what another one has fetched; a part of it is left to chance, so that workers
# don't all do it at once.
LOOK_SECONDS = 2.0
# The same as long as there is a document that nobody has asked for yet: somebody may be waiting for it.
FIRST_LOOK_SECONDS = 0.1
# A service that does not answer must not keep the others' documents from being shown.
PATIENCE_SECONDS = 1.0
CONCURRENT_FETCHES = 8

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where a service's document comes from; `key` names it in Redis, with all that the document depends on."""

    @property
    def key(self) -> str: ...
    @property
    def max_bytes(self) -> int: ...

    def fetch(self, fields: Mapping[str, str]) -> Document:
        """Raises FetchError."""

    def check(self, content: bytes) -> None:
        """Raises FetchError where this is no document."""


class DocumentRefresher:
    """`sources` by their services' names. `when_changed` is called, in the refresher's thread, with what is
    known of all services, whenever that has changed. `clock` gives seconds since 1970, `jitter` numbers from 0
    to 1. A document is fetched before its time no sooner than `cooldown_seconds` after the last time that it was."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        store: DocumentStore | None,
        refresh_seconds: float,
        when_changed: Callable[[Mapping[str, DocumentState], Mapping[str, bytes]], None],
        clock: Callable[[], float],
        jitter: Callable[[], float],
        cooldown_seconds: float = COOLDOWN_SECONDS,
    ) -> None:
        self._sources = sources
        self._store = store
        self._turns = Turns(store)
        self._refresh_seconds = refresh_seconds
        self._when_changed = when_changed
        self._clock = clock
        self._jitter = jitter
        self._known: dict[str, DocumentState] = {}
        self._contents: dict[str, bytes] = {}
        self._told: dict[str, DocumentState] | None = None
        self._thread = PerProcessThread("documents", self._keep)
        # Until the thread runs, whoever waits waits in full.
        self._started_at = math.inf
        self._has_asked_all = False
        self._changed = Condition()
        self._cooldown_seconds = cooldown_seconds
        # One fetch of a document at a time, in this worker.
        self._fetching = {name: Lock() for name in sources}
        self._renewals: dict[str, Renewal] = {}
        # Those of which `when_changed` has not been told.
        self._fetched: list[Renewal] = []

    @property
    def names(self) -> list[str]:
        """The services whose documents are kept."""
        return list(self._sources)

    @property
    def known(self) -> Mapping[str, DocumentState]:
        """What this worker knows of the documents that have been asked for."""
        return dict(self._known)

    def start(self) -> None:
        """Starts the thread of this process, once; not before it is forked."""
        self._thread.start()

    def wait_for_first(self, seconds: float) -> None:
        """Until every document has been asked for once, by whichever worker, and no longer than so long after the
        first of them was: where one service hangs, the others' documents are shown then."""
        self.start()
        if not self._has_asked_all:
            with self._changed:
                left = min(seconds, self._started_at + seconds - time.monotonic())
                self._changed.wait_for(lambda: self._has_asked_all, left)

    def begin_renewal(self, name: str) -> Renewal:
        """Fetches the document of this service again, beside the caller, whatever its age. The renewal that goes on
        already, or that began less than the cooldown ago."""
        self.start()
        with self._changed:
            last = self._renewals.get(name)
            if last is not None and not (last.ended.is_set() and last.age_seconds >= self._cooldown_seconds):
                return last
            renewal = self._renewals[name] = Renewal()
        try:
            Thread(target=self._renew_early, args=(name, renewal), daemon=True).start()
        except BaseException:
            renewal.ended.set()
            raise
        return renewal

    def look(self) -> None:
        """Takes over what other workers have fetched, and fetches nothing."""
        self._look_into_store()
        self._tell()

    def has(self, name: str) -> bool:
        """Whether there is a document of this service."""
        return name in self._contents

    def seconds_until_renewed(self, name: str) -> int:
        """When the document of this service is asked for again, in whole seconds, at least one."""
        kept = self._known.get(name, DocumentState())
        return math.ceil(max(1.0, min(self._refresh_seconds, kept.checked_at + self._refresh_seconds - self._clock())))

    def _keep(self) -> None:
        self._started_at = time.monotonic()
        fetches = TaskGroup(CONCURRENT_FETCHES, self._changed)
        while True:
            try:
                self._round(fetches)
            except Exception:
                # Whatever it was: without this thread the documents would stay as they are for ever.
                log.exception("documents can't be kept fresh")
            pause = min(LOOK_SECONDS, self._refresh_seconds) if self._has_asked_all else FIRST_LOOK_SECONDS
            with self._changed:
                self._changed.wait_for(self._has_news, pause * (0.75 + 0.5 * self._jitter()))

    def _has_news(self) -> bool:
        return bool(self._fetched)

    def _round(self, fetches: TaskGroup) -> None:
        if self._has_news():
            # Requests wait for it.
            self._tell()
        self._look_into_store()
        now = self._clock()
        due = [name for name in self._sources if self._is_due(name, now)]
        fetches.begin(partial(self._renew, name) for name in due)
        while not fetches.wait(PATIENCE_SECONDS, self._has_news):
            self._tell()
        self._tell()
        # Those that another worker is asking for are not known before it has shared what came of it.
        if all(name in self._known for name in self._sources):
            with self._changed:
                self._has_asked_all = True
                self._changed.notify_all()

    def _is_due(self, name: str, now: float) -> bool:
        kept = self._known.get(name)
        # A clock that was set back must not keep a document for ever.
        return kept is None or not 0 <= now - kept.checked_at < self._refresh_seconds

    def _look_into_store(self) -> None:
        """Takes over what other workers have fetched."""
        if self._store is None:
            return
        try:
            names = {source.key: name for name, source in self._sources.items()}
            for key, kept in self._store.read(names).items():
                name = names[key]
                known = self._known.get(name)
                if known is not None and known.checked_at >= kept.checked_at:
                    continue
                if kept.version and (known is None or known.version != kept.version):
                    content = self._store.content(key, kept.version, self._sources[name].max_bytes)
                    if content is None:
                        # It is as if nobody had fetched it.
                        continue
                    self._contents[name] = content
                self._known[name] = kept
        except FAILURES as error:
            log.debug("documents can't be shared: %s", error)

    def _renew(self, name: str) -> None:
        """Fetches one document that is due, if no other worker does."""
        with self._fetching[name]:
            if self._turns.begin(self._sources[name].key):
                self._fetch_in_turn(name, lambda: self._is_due(name, self._clock()))

    def _renew_early(self, name: str, renewal: Renewal) -> None:
        """Fetches one document that may not be due, after any fetch of it that goes on: that one may have begun before
        the service had what is asked for."""
        source = self._sources[name]
        try:
            with self._fetching[name]:
                while not self._turns.begin(source.key):
                    if renewal.age_seconds > WAIT_SECONDS:
                        return
                    time.sleep(TURN_LOOK_SECONDS)
                self._fetch_in_turn(name, lambda: self._turns.may_renew(source.key, self._cooldown_seconds))
        finally:
            with self._changed:
                self._fetched.append(renewal)
                self._changed.notify_all()

    def _fetch_in_turn(self, name: str, is_wanted: Callable[[], bool]) -> None:
        # Another worker may have fetched it, and given its turn back, since this one last looked.
        self._look_into_store()
        if is_wanted():
            self._fetch(name)
        else:
            self._turns.end(self._sources[name].key)

    def _fetch(self, name: str) -> None:
        source = self._sources[name]
        before = self._known.get(name, DocumentState())
        now = self._clock()
        try:
            document = source.fetch(before.validators)
            content = document.content
            if content is not None:
                source.check(content)
        except Exception as error:
            # Whatever it was: it is known of all workers, and the turn given back.
            kept, content = before.failed(str(error) or type(error).__name__, now), None
            if not before.failure:
                is_expected = isinstance(error, FetchError)
                text = "the document of %s can't be had: %s"
                log.warning(text, name, error, exc_info=None if is_expected else error)
        else:
            kept = replace(before, checked_at=now, stale_since=None, failure="")
            if content is not None:
                version = sha256(content).hexdigest()
                etag, modified = document.fields.get("ETag", ""), document.fields.get("Last-Modified", "")
                kept = replace(kept, version=version, etag=etag, last_modified=modified)
                content = content if version != before.version else None
            if before.failure:
                log.warning("the document of %s can be had again", name)
        if content is not None:
            self._contents[name] = content
        self._known[name] = kept
        self._turns.share(source.key, kept, content)

    def _tell(self) -> None:
        with self._changed:
            fetched, self._fetched = self._fetched, []
        try:
            known = dict(self._known)
            if self._told is None or any(is_other(known.get(name), self._told.get(name)) for name in self._sources):
                self._when_changed(known, dict(self._contents))
                self._told = known
        finally:
            for renewal in fetched:
                renewal.ended.set()
            with self._changed:
                self._changed.notify_all()


def is_other(kept: DocumentState | None, told: DocumentState | None) -> bool:
    """Whether there is something new to tell; that it was looked at again is not."""
    before, after = told or DocumentState(), kept or DocumentState()
    return (before.version, before.stale_since) != (after.version, after.stale_since)
