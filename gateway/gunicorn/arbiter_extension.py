"""Extends gunicorn's master (its arbiter): replaces workers without a gap, survives a failed fork, announces a
shutdown, and restarts the private Redis.

gunicorn has no hooks for this, so some methods of the arbiter are replaced."""

from __future__ import annotations

import logging
import signal
import time
from contextlib import suppress
from typing import Any

from gateway.config.load import instance_folder
from gateway.gunicorn.base_worker import MASTER_SIGNALS
from gateway.gunicorn.listeners import Listeners
from gateway.redis.private_server import PrivateRedis, url_file
from gateway.system.shutdown import GATEWAY_SHUTDOWN

RETRY_SECONDS = 1.0
# The limit includes workers that finish their last requests: repeated reloads must not fill the memory.
MAX_PROCESSES_PER_WORKER = 3

log = logging.getLogger("gunicorn.error")


class ReloadDone(Exception):
    """Raised within gunicorn's reload to skip its last part, which waits for the old workers."""


class ArbiterExtension:
    """Replaces methods of `server`, which is gunicorn's arbiter. `redis` is the private Redis, if there is one.
    gunicorn calls `manage_workers` once a second and after each signal."""

    def __init__(self, server: Any, listeners: Listeners) -> None:
        self.redis: PrivateRedis | None = None
        self._server = server
        self._listeners = listeners
        self._stop, self._reload = server.stop, server.reload
        self._spawn_worker, self._reap_workers = server.spawn_worker, server.reap_workers
        self._is_reloading = False
        self._must_log_reload = False
        # gunicorn numbers its workers by age. Workers up to this number were started before the last reload.
        self._age_at_reload = 0
        self._retry_at = float("-inf")
        self._logged_count = 0
        server.stop, server.reload = self.stop, self.reload
        server.spawn_worker, server.reap_workers = self.spawn_worker, self.reap_workers
        server.manage_workers = self.manage_workers

    def stop(self, graceful: bool = True) -> None:
        """Announces the shutdown of the gateway to all workers before gunicorn signals them."""
        if graceful:
            GATEWAY_SHUTDOWN.set()
        self._stop(graceful)

    def reload(self) -> None:
        """Loads the configuration. The workers are replaced later, by `manage_workers`, while the master still handles
        signals. gunicorn's own reload would wait for the old workers, which may have streams to finish."""
        server = self._server
        self._age_at_reload, self._is_reloading = server.worker_age, True
        try:
            with suppress(ReloadDone):
                self._reload()
        except SystemExit:
            if server.app.cfg is server.cfg:
                raise
            # gunicorn exits if its configuration can't be loaded. That is right at the start; here the old one stays in
            # force.
            server.app.cfg = server.cfg
            log.error("not reloaded: gunicorn's own configuration can't be used")
        finally:
            self._is_reloading = False

    def spawn_worker(self) -> None:
        if not self._is_reloading:
            self._try_spawn()

    def reap_workers(self) -> None:
        if self._is_reloading:
            raise ReloadDone
        had_successor = self._server.reexec_pid
        self._reap_workers()
        if had_successor and not self._server.reexec_pid:
            # The gateway that USR2 started has ended. It had overwritten the files with the URL of its own Redis.
            self.write_redis_url_files()

    def manage_workers(self) -> None:
        """Starts missing workers. Workers that finish their last requests, which may take long, don't count. Workers of
        an earlier configuration are ended once new ones serve."""
        if self.redis is not None:
            self.redis.restart_if_ended()
        server = self._server
        workers = sorted(server.WORKERS.values(), key=lambda worker: worker.age)
        staying = [worker for worker in workers if not worker.is_leaving.is_set]
        current = [worker for worker in staying if worker.age > self._age_at_reload]
        missing = min(server.num_workers - len(current), MAX_PROCESSES_PER_WORKER * server.num_workers - len(workers))
        if missing > 0 and time.monotonic() >= self._retry_at:
            while missing and self._try_spawn():
                missing -= 1
        old = [worker for worker in staying if worker.age <= self._age_at_reload]
        not_serving_yet = max(0, server.num_workers - sum(worker.is_serving.is_set for worker in current))
        if self._must_log_reload and not not_serving_yet:
            self._must_log_reload = False
            log.info("Reloaded: %s workers serve by the new configuration", server.num_workers)
        needed = [worker for worker in old if worker.is_serving.is_set][-not_serving_yet:] if not_serving_yet else []
        surplus = [worker for worker in old if worker not in needed]
        for worker in surplus + current[: max(0, len(current) - server.num_workers)]:
            worker.is_leaving.set()
            server.kill_worker(worker.pid, signal.SIGTERM)
        self._log_count(len(staying) - len(surplus))

    def log_when_reloaded(self) -> None:
        """Makes `manage_workers` log a line once the workers of the new configuration serve."""
        self._must_log_reload = True

    def write_redis_url_files(self) -> None:
        """Writes the URL of the private Redis to a file for each listening address, where `flask` commands find it.
        Called only when the gateway listens: a gateway that finds its port in use must not overwrite the file of the
        gateway that uses the port."""
        if self.redis is not None:
            self.redis.write_url_files([url_file(instance_folder(), address) for address in self._listeners.addresses])

    def _try_spawn(self) -> bool:
        """Starts a worker. Returns False if the system can't start a process; `manage_workers` then tries again after a
        second. gunicorn itself would end the gateway."""
        signal.pthread_sigmask(signal.SIG_BLOCK, MASTER_SIGNALS)
        try:
            self._spawn_worker()
        except OSError as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            log.error("a worker can't be started now: %s", error.strerror)
            return False
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, MASTER_SIGNALS)
        return True

    def _log_count(self, workers: int) -> None:
        """Logs the number of workers for gunicorn's `statsd_host`, as gunicorn's own `manage_workers` does."""
        if workers != self._logged_count:
            self._logged_count = workers
            metric = {"metric": "gunicorn.workers", "value": workers, "mtype": "gauge"}
            self._server.log.debug("%s workers", workers, extra=metric)
