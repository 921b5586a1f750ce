"""Publishes the report and the history of each worker to Redis, in the background. If Redis fails, `/status` shows only
the worker that serves the request.

Each worker has two keys. The report expires soon after the worker has ended. The history expires when it is no longer
shown, so the requests of a worker that was replaced still count. A sorted set lists the workers. In a cluster all keys
are in one partition."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.redis.client import FAILURES, SharedRedis
from gateway.status.rolling_stats import SLOT_SECONDS, SLOTS, RollingStats
from gateway.status.worker_state import WorkerState
from gateway.system.threads import PerProcessThread

PREFIX = "gateway:status:"
PUBLISH_SECONDS = 3.0
# Several intervals long, so that one slow response of Redis does not make a worker seem to have ended.
REPORT_TTL_SECONDS = 12
HISTORY_TTL_SECONDS = SLOTS * SLOT_SECONDS
# Long, because the clocks of gateways may differ.
WORKER_TTL_SECONDS = 86400
# Only the workers that published last are shown: a gateway whose workers crash again and again leaves many behind.
MAX_WORKERS = 1000

log = logging.getLogger(__name__)


class StatusStore:
    """Stores the reports and histories in Redis. Methods raise one of `redis.client.FAILURES` if Redis fails. `clock`
    returns seconds since 1970."""

    def __init__(self, redis: SharedRedis, clock: Callable[[], float]) -> None:
        self._redis = redis
        self._clock = clock
        prefix = redis.hash_tags.tags[0] + PREFIX
        self._index, self._reports, self._histories = prefix + "workers", prefix + "now:", prefix + "slots:"

    def write_history(self, worker: str, text: str) -> None:
        self._run("SET", self._histories + worker, text, "EX", HISTORY_TTL_SECONDS)

    def write_report(self, worker: str, text: str) -> None:
        """Stores the report, and adds the worker to the workers that `read` returns."""
        now = int(self._clock())
        self._run("SET", self._reports + worker, text, "EX", REPORT_TTL_SECONDS)
        self._run("ZADD", self._index, now, worker)
        self._run("EXPIRE", self._index, HISTORY_TTL_SECONDS)
        self._run("ZREMRANGEBYSCORE", self._index, "-inf", now - WORKER_TTL_SECONDS)

    def read(self) -> Mapping[str, tuple[bytes | None, bytes | None]]:
        """Returns the report and the history of each worker. Either is None if its key has expired."""
        workers = [name.decode("utf-8", "replace") for name in self._run("ZRANGE", self._index, -MAX_WORKERS, -1)]
        keys = [prefix + worker for prefix in (self._reports, self._histories) for worker in workers]
        values = self._run("MGET", *keys) if keys else []
        reports, histories = values[: len(workers)], values[len(workers) :]
        return dict(zip(workers, zip(reports, histories, strict=True), strict=True))

    def _run(self, *command: str | int) -> Any:
        return self._redis.run(self._index, *command)


class Publisher:
    """Publishes from one thread per process, and reads what the other workers published. `jitter` returns numbers from
    0 to 1."""

    def __init__(
        self, store: StatusStore, worker_state: WorkerState, rolling_stats: RollingStats, jitter: Callable[[], float]
    ) -> None:
        self._store = store
        self._worker_state = worker_state
        self._rolling_stats = rolling_stats
        self._jitter = jitter
        self._published_history = ""
        self._history_due_at = 0.0
        self._thread = PerProcessThread("status", self._publish_forever)
        # The error of the last attempt to publish; None if it succeeded.
        self._failure: Exception | None = None

    def start(self) -> None:
        """Starts the thread of this process, once. Call it after the fork."""
        self._thread.start()

    def read(self) -> Mapping[str, tuple[bytes | None, bytes | None]]:
        """Returns the same as `StatusStore.read`. If the thread's last attempt to publish failed, raises that error at
        once, instead of waiting for another timeout."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        return self._store.read()

    def _publish_forever(self) -> None:
        while True:
            try:
                self._publish()
            except FAILURES as error:
                if self._failure is None:
                    log.debug("the status can't be published: %s", error)
                # Redis may have lost the history, so the next attempt publishes it again.
                self._failure, self._published_history = error.with_traceback(None), ""
            except Exception:
                # The thread goes on: without it, other workers would consider this worker ended.
                log.exception("the status can't be published")
            else:
                self._failure = None
            time.sleep(PUBLISH_SECONDS * (0.75 + 0.5 * self._jitter()))

    def _publish(self) -> None:
        worker, history, now = self._worker_state.worker_id(), self._rolling_stats.history(), time.monotonic()
        # The history is written first. A slot that has just finished is no longer in the report, and would otherwise be
        # missing in both for a moment.
        if history != self._published_history or now >= self._history_due_at:
            self._store.write_history(worker, history)
            self._published_history, self._history_due_at = history, now + HISTORY_TTL_SECONDS / 2
        self._store.write_report(worker, self._worker_state.report())
