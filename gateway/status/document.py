"""The document of `/status`, made of what all workers tell, at most once a second however many ask for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from threading import Lock
from typing import Any

from redis.exceptions import ResponseError

from gateway.redis.client import FAILURES
from gateway.status.publisher import Sharing, StatusStore
from gateway.status.report_schema import read_history, read_report
from gateway.status.rolling_stats import RollingStats
from gateway.status.service_documents import DocumentsWatch
from gateway.status.summary import Told, summarized
from gateway.status.worker_state import WorkerState
from gateway.system.native_threads import run_in_native_thread
from gateway.timestamps import iso

GOOD_FOR_SECONDS = 1.0
ALONE = "There is no Redis that others share: these are the figures of one worker alone."

OWN_SETTINGS = frozenset({"server", "redis_url"})


Texts = Mapping[str, tuple[bytes | str | None, bytes | str | None]]


class StatusDocument:
    """`store` and `sharing` are None without Redis; `clock` is seconds since 1970."""

    def __init__(
        self,
        present: WorkerState,
        recent: RollingStats,
        store: StatusStore | None,
        sharing: Sharing | None,
        documents: DocumentsWatch,
        configuration: Mapping[str, Any],
        not_default: Sequence[str],
        clock: Callable[[], float],
    ) -> None:
        self._present = present
        self._recent = recent
        self._store = store
        self._sharing = sharing
        self._documents = documents
        self._configuration = configuration
        self._not_default = not_default
        self._clock = clock
        self._lock = Lock()
        self._made_at = float("-inf")
        self._made = b""

    def start(self) -> None:
        """Begins to tell the other workers, once in each process; not before it is forked."""
        if self._sharing is not None:
            self._sharing.start()

    def document(self) -> bytes:
        """The document as JSON. Waits for Redis no longer than its client does, and never fails because of it."""
        self.start()
        self._documents.start()
        with self._lock:
            now = self._clock()
            if not 0 <= now - self._made_at < GOOD_FOR_SECONDS:
                texts, failure = self._gathered()
                self._made = run_in_native_thread(lambda: self._written(texts, failure, now))
                self._made_at = now
            return self._made

    def _gathered(self) -> tuple[Texts, Exception | None]:
        """What all workers tell, this one at first hand, and why it can't be had of the others."""
        own: Texts = {self._present.worker(): (self._present.report(), self._recent.finished())}
        if self._store is None or self._sharing is None:
            return own, None
        # It has just asked in vain: whoever looks need not wait for that, too.
        if self._sharing.failure is not None:
            return own, self._sharing.failure
        try:
            return {**self._store.read(), **own}, None
        except FAILURES as error:
            return own, error

    def _written(self, texts: Texts, failure: Exception | None, now: float) -> bytes:
        summary = summarized([told_by(*pair) for pair in texts.values()], now)
        # What it refuses may be this alone: the rights for it may be missing.
        if failure is not None and not isinstance(failure, ResponseError):
            summary["redis"]["state"] = "down"
        note = ALONE if self._store is None else note_of(failure) if failure is not None else ""
        document = {
            "time": iso(now),
            "is_whole": not note,
            "note": note,
            **summary,
            "documents": self._documents.described(now),
            "configuration": self._configuration,
            "not_default": self._not_default,
        }
        return json.dumps(document, separators=(",", ":")).encode()


def note_of(failure: Exception) -> str:
    what = "refuses it" if isinstance(failure, ResponseError) else "does not answer"
    return f"Redis {what} ({type(failure).__name__}): these are the figures of the one worker that was asked."


def told_by(report: bytes | str | None, history: bytes | str | None) -> Told:
    """What a worker's two values say; what can't be read says nothing."""
    return Told(readable(report, read_report), readable(history, read_history) or {})


def readable(text: bytes | str | None, read: Callable[[bytes | str], Any]) -> Any:
    if text is None:
        return None
    try:
        return read(text)
    except ValueError:
        # Another version of the gateway may have told it.
        return None


def tag_of(configuration: Mapping[str, Any]) -> str:
    """The same for gateways that do the same, as far as their configurations are shown. Where they listen and by which
    address they reach Redis is each machine's own."""
    told = {name: value for name, value in configuration.items() if name not in OWN_SETTINGS}
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
