"""What gunicorn's master does beside its own work: it replaces workers without a gap, goes on without a process that it
can't have at the moment, says that it ends, and sees to its private Redis.

gunicorn has no hooks for that, so some of its methods are replaced.
"""

from __future__ import annotations

import logging
import signal
import time
from contextlib import suppress
from typing import Any

from gateway.config.load import instance_folder
from gateway.gunicorn.base_worker import SIGNALS_OF_THE_MASTER
from gateway.gunicorn.listeners import Listeners
from gateway.redis.private_server import PrivateRedis, url_file
from gateway.system.shutdown import GATEWAY_SHUTDOWN

RETRY_SECONDS = 1.0
# Workers that finish their last requests count here, too: whoever reloads again and again must not fill the memory.
MOST_PER_WORKER = 3

log = logging.getLogger("gunicorn.error")


class ReloadDone(Exception):
    """All that is left of gunicorn's reload is to wait for the old workers."""


class ArbiterExtension:
    """`redis` is the private one, where there is one. gunicorn calls `manage_workers` each second, and whenever a
    signal has come."""

    def __init__(self, server: Any, listeners: Listeners) -> None:
        self.redis: PrivateRedis | None = None
        self._server = server
        self._listeners = listeners
        self._stop, self._reload = server.stop, server.reload
        self._spawn_worker, self._reap_workers = server.spawn_worker, server.reap_workers
        self._is_reloading = False
        self._is_to_confirm = False
        # Workers of this age, and older ones, serve by the configuration before the last reload.
        self._age_at_reload = 0
        self._try_again_at = float("-inf")
        self._counted = 0
        server.stop, server.reload = self.stop, self.reload
        server.spawn_worker, server.reap_workers = self.spawn_worker, self.reap_workers
        server.manage_workers = self.manage_workers

    def stop(self, graceful: bool = True) -> None:
        """Says that the whole ends, before the workers are told to."""
        if graceful:
            GATEWAY_SHUTDOWN.set()
        self._stop(graceful)

    def reload(self) -> None:
        """Loads the configuration. `manage_workers` replaces the workers then, while signals are heard as always:
        gunicorn would wait for the old ones, who may have streams to finish."""
        server = self._server
        self._age_at_reload, self._is_reloading = server.worker_age, True
        try:
            with suppress(ReloadDone):
                self._reload()
        except SystemExit:
            if server.app.cfg is server.cfg:
                raise
            # What gunicorn does where its configuration can't be loaded, which is right at the start.
            server.app.cfg = server.cfg
            log.error("not reloaded: gunicorn's own configuration can't be used")
        finally:
            self._is_reloading = False

    def spawn_worker(self) -> None:
        if not self._is_reloading:
            self._has_spawned()

    def reap_workers(self) -> None:
        if self._is_reloading:
            raise ReloadDone
        former = self._server.reexec_pid
        self._reap_workers()
        if former and not self._server.reexec_pid:
            # The gateway that USR2 started noted its own Redis, and has ended.
            self.note_redis()

    def manage_workers(self) -> None:
        """Has as many workers as there should be beside those that finish their last requests, which may take long.
        Old ones end when new ones serve."""
        if self.redis is not None:
            self.redis.restart_if_ended()
        server = self._server
        workers = sorted(server.WORKERS.values(), key=lambda worker: worker.age)
        staying = [worker for worker in workers if not worker.is_leaving.is_raised]
        current = [worker for worker in staying if worker.age > self._age_at_reload]
        missing = min(server.num_workers - len(current), MOST_PER_WORKER * server.num_workers - len(workers))
        if missing > 0 and time.monotonic() >= self._try_again_at:
            while missing and self._has_spawned():
                missing -= 1
        old = [worker for worker in staying if worker.age <= self._age_at_reload]
        wanted = max(0, server.num_workers - sum(worker.is_serving.is_raised for worker in current))
        if self._is_to_confirm and not wanted:
            self._is_to_confirm = False
            log.info("Reloaded: %s workers serve by the new configuration", server.num_workers)
        needed = [worker for worker in old if worker.is_serving.is_raised][-wanted:] if wanted else []
        surplus = [worker for worker in old if worker not in needed]
        for worker in surplus + current[: max(0, len(current) - server.num_workers)]:
            worker.is_leaving.set()
            server.kill_worker(worker.pid, signal.SIGTERM)
        self._count(len(staying) - len(surplus))

    def confirm_reload(self) -> None:
        """Has it logged when the workers of the new configuration serve."""
        self._is_to_confirm = True

    def note_redis(self) -> None:
        """Tells commands where the private Redis is, by each address that is listened at. Not before it is: a gateway
        that finds its port taken must not take the other one's place."""
        if self.redis is not None:
            self.redis.write_url_files([url_file(instance_folder(), address) for address in self._listeners.addresses])

    def _has_spawned(self) -> bool:
        """Where the system has no process to give, it is tried again a second later: the whole would end otherwise."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS_OF_THE_MASTER)
        try:
            self._spawn_worker()
        except OSError as error:
            self._try_again_at = time.monotonic() + RETRY_SECONDS
            log.error("a worker can't be started now: %s", error.strerror)
            return False
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS_OF_THE_MASTER)
        return True

    def _count(self, workers: int) -> None:
        """gunicorn's figure for its `statsd_host`."""
        if workers != self._counted:
            self._counted = workers
            figure = {"metric": "gunicorn.workers", "value": workers, "mtype": "gauge"}
            self._server.log.debug("%s workers", workers, extra=figure)
