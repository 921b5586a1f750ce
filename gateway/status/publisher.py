"""Passes on what each worker tells of itself, by Redis: nobody waits for it, and without Redis each knows of itself.

Of each worker there are two values: how it is now, which is gone soon after it, and its finished slots, which outlive
it as long as they are shown, so that figures don't vanish when workers are replaced. One sorted set names them all.
In a cluster all of that is in one partition.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.redis.client import FAILURES, SharedRedis
from gateway.status.rolling_stats import SLOT_SECONDS, SLOTS
from gateway.system.threads import PerProcessThread

PREFIX = "gateway:status:"
SHARE_SECONDS = 3.0
# Several times as long: one late answer of Redis does not make a worker look dead.
ALIVE_SECONDS = 12
HISTORY_SECONDS = SLOTS * SLOT_SECONDS
# By the clocks of the gateways, which may be wrong.
FORGOTTEN_AFTER_SECONDS = 86400
# The last ones; a gateway whose workers die all the time leaves many.
MOST_WORKERS = 1000

log = logging.getLogger(__name__)


class StatusStore:
    """Methods raise one of `redis.client.FAILURES` when Redis fails. `clock` is seconds since 1970."""

    def __init__(self, redis: SharedRedis, clock: Callable[[], float]) -> None:
        self._redis = redis
        self._clock = clock
        prefix = redis.hash_tags.tags[0] + PREFIX
        self._index, self._reports, self._histories = prefix + "workers", prefix + "now:", prefix + "slots:"

    def write_history(self, worker: str, text: str) -> None:
        self._run("SET", self._histories + worker, text, "EX", HISTORY_SECONDS)

    def write_report(self, worker: str, text: str) -> None:
        """Also has the worker among those that are read."""
        now = int(self._clock())
        self._run("SET", self._reports + worker, text, "EX", ALIVE_SECONDS)
        self._run("ZADD", self._index, now, worker)
        self._run("EXPIRE", self._index, HISTORY_SECONDS)
        self._run("ZREMRANGEBYSCORE", self._index, "-inf", now - FORGOTTEN_AFTER_SECONDS)

    def read(self) -> Mapping[str, tuple[bytes | None, bytes | None]]:
        """The report and the history of each worker, as far as they are there still."""
        workers = [name.decode("utf-8", "replace") for name in self._run("ZRANGE", self._index, -MOST_WORKERS, -1)]
        keys = [prefix + worker for prefix in (self._reports, self._histories) for worker in workers]
        values = self._run("MGET", *keys) if keys else []
        reports, histories = values[: len(workers)], values[len(workers) :]
        return dict(zip(workers, zip(reports, histories, strict=True), strict=True))

    def _run(self, *command: str | int) -> Any:
        return self._redis.run(self._index, *command)


class Sharing:
    """Has a thread of each worker tell the others. `worker` names it, `report` and `history` give what to tell as JSON;
    `jitter` gives numbers from 0 to 1."""

    def __init__(
        self,
        store: StatusStore,
        worker: Callable[[], str],
        report: Callable[[], str],
        history: Callable[[], str],
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._worker = worker
        self._report = report
        self._history = history
        self._jitter = jitter
        self._told_history = ""
        self._history_due_at = 0.0
        self._thread = PerProcessThread("status", self._keep_telling)
        # Why the last attempt was in vain; None where it was not.
        self.failure: Exception | None = None

    def start(self) -> None:
        """Starts the thread of this process, once; not before it is forked."""
        self._thread.start()

    def _keep_telling(self) -> None:
        while True:
            try:
                self._tell()
            except FAILURES as error:
                if self.failure is None:
                    log.debug("the status can't be shared: %s", error)
                # Redis may be another one when it is back, that knows of nothing.
                self.failure, self._told_history = error.with_traceback(None), ""
            except Exception:
                # Whatever it was: without this thread the others would take this worker for dead.
                log.exception("the status can't be shared")
            else:
                self.failure = None
            time.sleep(SHARE_SECONDS * (0.75 + 0.5 * self._jitter()))

    def _tell(self) -> None:
        worker, history = self._worker(), self._history()
        # Before the report: what has just finished is not in that any more.
        now = time.monotonic()
        if history != self._told_history or now >= self._history_due_at:
            self._store.write_history(worker, history)
            self._told_history, self._history_due_at = history, now + HISTORY_SECONDS / 2
        self._store.write_report(worker, self._report())
