"""Builds the JSON document of `/status` from what all workers published. Each worker builds it at most once a
second."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from threading import Lock
from typing import Any

from redis.exceptions import ResponseError

from gateway.redis.client import FAILURES
from gateway.status.publisher import Publisher
from gateway.status.report_schema import read_history, read_report
from gateway.status.rolling_stats import RollingStats
from gateway.status.service_documents import ServiceDocuments
from gateway.status.summary import WorkerData, summarize
from gateway.status.worker_state import WorkerState
from gateway.system.native_threads import run_in_native_thread
from gateway.timestamps import iso

CACHE_SECONDS = 1.0
NO_SHARED_REDIS = "Without a Redis that all workers share, these are the figures of one worker only."
# Settings that may differ between gateways that behave alike: where they listen, and how they reach Redis.
MACHINE_SETTINGS = frozenset({"server", "redis_url"})

# For each worker, its report and its history as JSON.
WorkerTexts = Mapping[str, tuple[bytes | str | None, bytes | str | None]]


class StatusDocument:
    """Builds and caches the document. `publisher` is None without Redis. `clock` returns seconds since 1970."""

    def __init__(
        self,
        worker_state: WorkerState,
        rolling_stats: RollingStats,
        publisher: Publisher | None,
        documents: ServiceDocuments,
        configuration: Mapping[str, Any],
        not_default: Sequence[str],
        clock: Callable[[], float],
    ) -> None:
        self._worker_state = worker_state
        self._rolling_stats = rolling_stats
        self._publisher = publisher
        self._documents = documents
        self._configuration = configuration
        self._not_default = not_default
        self._clock = clock
        self._lock = Lock()
        self._built_at = float("-inf")
        self._json = b""

    def start(self) -> None:
        """Starts publishing the state of this worker, once per process. Call it after the fork."""
        if self._publisher is not None:
            self._publisher.start()

    def to_json(self) -> bytes:
        """Returns the document. A failure of Redis does not make this fail, and delays it only up to the timeouts of
        the store's client."""
        self.start()
        self._documents.start()
        with self._lock:
            now = self._clock()
            if not 0 <= now - self._built_at < CACHE_SECONDS:
                texts, failure = self._collect()
                self._json = run_in_native_thread(lambda: self._build(texts, failure, now))
                self._built_at = now
            return self._json

    def _collect(self) -> tuple[WorkerTexts, Exception | None]:
        """Returns what all workers published, with the present state of this worker. If Redis fails, returns only the
        state of this worker, and the error."""
        own: WorkerTexts = {
            self._worker_state.worker_id(): (self._worker_state.report(), self._rolling_stats.history())
        }
        if self._publisher is None:
            return own, None
        try:
            return {**self._publisher.read(), **own}, None
        except FAILURES as error:
            return own, error

    def _build(self, texts: WorkerTexts, failure: Exception | None, now: float) -> bytes:
        workers = [
            WorkerData(parsed(report, read_report), parsed(history, read_history) or {})
            for report, history in texts.values()
        ]
        summary = summarize(workers, now)
        # An error response does not show that Redis is down: the user may lack a permission for these commands.
        if failure is not None and not isinstance(failure, ResponseError):
            summary["redis"]["state"] = "down"
        note = NO_SHARED_REDIS if self._publisher is None else note_of(failure) if failure is not None else ""
        document = {
            "time": iso(now),
            "is_whole": not note,
            "note": note,
            **summary,
            "documents": self._documents.describe(now),
            "configuration": self._configuration,
            "not_default": self._not_default,
        }
        return json.dumps(document, separators=(",", ":")).encode()


def note_of(failure: Exception) -> str:
    problem = "refuses the command" if isinstance(failure, ResponseError) else "does not answer"
    return f"Redis {problem} ({type(failure).__name__}), so these are the figures of one worker only."


def parsed(text: bytes | str | None, parse: Callable[[bytes | str], Any]) -> Any:
    """Parses a report or a history. None if its key has expired, or if another version of the gateway wrote something
    else."""
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError:
        return None


def configuration_tag(configuration: Mapping[str, Any]) -> str:
    """A short hash that is equal for gateways with equal redacted settings. MACHINE_SETTINGS are ignored."""
    compared = {name: value for name, value in configuration.items() if name not in MACHINE_SETTINGS}
    return sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()[:8]
