"""Extends gunicorn's master (its arbiter): replaces workers without a gap, survives a failed fork, announces a
shutdown, and restarts the private Redis.

gunicorn has no hooks for that, so some methods of the arbiter are replaced.
"""

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
# Includes workers that finish their last requests: repeated reloads must not fill the memory.
MAX_PROCESSES_PER_WORKER = 3

log = logging.getLogger("gunicorn.error")


class ReloadDone(Exception):
    """Skips the rest of gunicorn's reload, which waits for the old workers."""


class ArbiterExtension:
    """`redis` is the private Redis, if there is one. gunicorn calls `manage_workers` once a second and after each
    signal."""

    def __init__(self, server: Any, listeners: Listeners) -> None:
        self.redis: PrivateRedis | None = None
        self._server = server
        self._listeners = listeners
        self._stop, self._reload = server.stop, server.reload
        self._spawn_worker, self._reap_workers = server.spawn_worker, server.reap_workers
        self._is_reloading = False
        self._must_log_reload = False
        # Workers up to this age were started before the last reload.
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
        """Loads the configuration. `manage_workers` then replaces the workers while signals are still handled: gunicorn
        would wait for the old ones, which may have streams to finish."""
        server = self._server
        self._age_at_reload, self._is_reloading = server.worker_age, True
        try:
            with suppress(ReloadDone):
                self._reload()
        except SystemExit:
            if server.app.cfg is server.cfg:
                raise
            # gunicorn exits if its configuration can't be loaded, which is right only at the start.
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
            # The gateway that USR2 started wrote the URL of its own Redis, and has ended.
            self.write_redis_url_files()

    def manage_workers(self) -> None:
        """Starts missing workers, beside those that finish their last requests, which may take long. Ends workers of an
        earlier configuration when new ones serve."""
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
        """Has `manage_workers` log it when the workers of the new configuration serve."""
        self._must_log_reload = True

    def write_redis_url_files(self) -> None:
        """Writes the URL of the private Redis for commands, in a file for each address. Called only once the addresses
        are listened on: a gateway that finds its port in use must not overwrite the file of the one that uses it."""
        if self.redis is not None:
            self.redis.write_url_files([url_file(instance_folder(), address) for address in self._listeners.addresses])

    def _try_spawn(self) -> bool:
        """Starts a worker; whether that succeeded. If the system has no process to give, it is tried again a second
        later: gunicorn would end the gateway."""
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
        """gunicorn's metric for its `statsd_host`."""
        if workers != self._logged_count:
            self._logged_count = workers
            metric = {"metric": "gunicorn.workers", "value": workers, "mtype": "gauge"}
            self._server.log.debug("%s workers", workers, extra=metric)
