"""How a worker starts, handles signals, and makes room for another worker if it uses too much memory."""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

from click import ClickException

from gateway.config import ServerSettings
from gateway.gunicorn.master_config import MASTER_CONFIG
from gateway.gunicorn.parse_errors import ProblemResponses
from gateway.system.memory import resident_bytes
from gateway.system.shared_flag import SharedFlag
from gateway.system.shutdown import WORKER_SHUTDOWN
from gateway.telemetry.telemetry import telemetry_of

# The master and its workers both handle these signals.
MASTER_SIGNALS = frozenset([signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGUSR1])
MIN_LIFETIME_SECONDS = 5.0
RETRY_SECONDS = 1.0
# Set when the first worker of this gateway serves (gunicorn.conf.py).
HAS_SERVED = SharedFlag()


class GatewayWorker(ProblemResponses):
    """The start and the signals of a worker; a subclass serves connections."""

    alive: bool
    booted: bool
    cfg: Any
    ppid: int
    wsgi: Any
    _next_memory_check = 0.0

    def __init__(self, *arguments: Any) -> None:
        """Called in the master before the fork, so that master and worker share the flags."""
        super().__init__(*arguments)
        self.is_serving = SharedFlag()
        # Set when this worker accepts no more connections and finishes its requests. The master starts another worker
        # in its place.
        self.is_leaving = SharedFlag()

    @property
    def settings(self) -> ServerSettings:
        return MASTER_CONFIG.settings.server

    def init_signals(self) -> None:
        super().init_signals()  # type: ignore[misc] # gunicorn's worker comes after this one
        # Ctrl-C on a terminal goes to all processes. The master handles it and ends the workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        WORKER_SHUTDOWN.open()
        # The master blocked these signals before the fork. Until here the worker had the master's handlers, in which a
        # signal would have had no effect.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, MASTER_SIGNALS)
        # If `max_worker_memory_mib` is too low for any worker, each worker still serves for a moment.
        self._next_memory_check = time.monotonic() + MIN_LIFETIME_SECONDS

    def init_process(self) -> None:
        """Starts the worker. If the start fails after any worker has served, only this process exits, and another
        worker tries: a file may just be being replaced, or no thread be available for a moment. If no worker has served
        yet, gunicorn ends the whole gateway."""
        try:
            super().init_process()  # type: ignore[misc]
        except Exception as error:
            if self.booted or not HAS_SERVED.is_set:
                raise
            is_expected = isinstance(error, ClickException)
            text = "this worker can't start, and another one will try: %s"
            self.log.error(text, error, exc_info=None if is_expected else error)
            time.sleep(RETRY_SECONDS)
            # The master then starts another worker. gunicorn's own exit code for a failed start would end the gateway.
            sys.exit(1)

    def handle_usr1(self, sig: int, frame: Any) -> None:
        """Opens the log files again after a log rotation."""
        super().handle_usr1(sig, frame)  # type: ignore[misc]
        # The signal may arrive before the application is loaded.
        if telemetry := telemetry_of(getattr(self, "wsgi", None)):
            telemetry.reopen_log()

    def notify(self) -> None:
        """Shows the master that this worker is alive, and checks its memory. Called about once a second."""
        super().notify()  # type: ignore[misc]
        limit_mib, now = self.settings.max_worker_memory_mib, time.monotonic()
        if limit_mib and self.alive and now >= self._next_memory_check:
            self._next_memory_check = now + 1
            if (used_mib := resident_bytes() >> 20) > limit_mib:
                self.log.warning("this worker has %s MiB of memory and makes room for a new one", used_mib)
                WORKER_SHUTDOWN.retire()
