"""What gunicorn's master does beside its own work: it says that it ends, goes on without a process that it can't have
at the moment, and sees to its private Redis.

It has no hooks for that, so its methods are put inside others.
"""

from __future__ import annotations

import time
from typing import Any

from gateway.config.load import instance_folder
from gateway.redis.embedded import EmbeddedRedis, note_file
from gateway.system.ending import GATEWAY_END

RETRY_SECONDS = 1.0


class MasterCare:
    """`redis` is the private one, where there is one. gunicorn calls `manage_workers` each second, and `reap_workers`
    when a child ends, also while it waits for old workers to end."""

    def __init__(self, server: Any) -> None:
        self.redis: EmbeddedRedis | None = None
        self._server = server
        self._stop, self._reload = server.stop, server.reload
        self._spawn_worker = server.spawn_worker
        self._manage_workers, self._reap_workers = server.manage_workers, server.reap_workers
        self._is_reloading = False
        # How many new workers a reload could not start. The old ones are as many as there should be, so that gunicorn
        # would miss none.
        self._owed = 0
        self._try_again_at = float("-inf")
        server.stop, server.reload = self.stop, self.reload
        server.spawn_worker = self.spawn_worker
        server.manage_workers, server.reap_workers = self.manage_workers, self.reap_workers

    def stop(self, graceful: bool = True) -> None:
        """Says that the whole ends, before the workers are told to."""
        if graceful:
            GATEWAY_END.hoist()
        self._stop(graceful)

    def reload(self) -> None:
        self._is_reloading, self._owed = True, 0
        try:
            self._reload()
        finally:
            self._is_reloading = False

    def spawn_worker(self) -> None:
        """Where the system has no process to give, it is tried again a second later: the whole would end otherwise."""
        if not self._has_spawned() and self._is_reloading:
            self._owed += 1

    def manage_workers(self) -> None:
        if self.redis is not None:
            self.redis.revive()
        while self._owed and time.monotonic() >= self._try_again_at and self._has_spawned():
            self._owed -= 1
        self._manage_workers()

    def reap_workers(self) -> None:
        self._reap_workers()
        if self._is_reloading:
            # It waits for the old workers, who end once there are new ones.
            self.manage_workers()

    def note_redis(self) -> None:
        """Tells commands where the private Redis is, by each address that is listened at. Not before it is: a gateway
        that finds its port taken must not take the other one's place."""
        if self.redis is not None:
            self.redis.note([note_file(instance_folder(), bind) for bind in self._server.cfg.bind])

    def _has_spawned(self) -> bool:
        try:
            self._spawn_worker()
        except OSError as error:
            self._try_again_at = time.monotonic() + RETRY_SECONDS
            self._server.log.error("a worker can't be started now: %s", error.strerror)
            return False
        return True
