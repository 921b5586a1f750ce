"""How a worker starts, what it does about signals, and when it makes room for another one."""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

from click import ClickException

from gateway.config import ServerSettings
from gateway.gunicorn.master_config import MASTER
from gateway.gunicorn.parse_errors import ProblemResponses
from gateway.system.flags import SharedFlag
from gateway.system.memory import resident_bytes
from gateway.system.shutdown import WORKER_SHUTDOWN
from gateway.telemetry.telemetry import telemetry_of

SIGNALS_OF_THE_MASTER = frozenset([signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGUSR1])
LEAST_LIFE_SECONDS = 5.0
RETRY_SECONDS = 1.0
# Set when the first worker of this gateway serves (gunicorn.conf.py).
HAS_SERVED = SharedFlag()


class GatewayWorker(ProblemResponses):
    """How a worker begins and ends, whatever it serves in between."""

    alive: bool
    booted: bool
    cfg: Any
    ppid: int
    wsgi: Any
    _next_memory_check = 0.0

    def __init__(self, *arguments: Any) -> None:
        """Called in the master, which sees these flags of the worker that it is about to fork."""
        super().__init__(*arguments)
        self.is_serving = SharedFlag()
        # Takes no more connections and finishes what it does: the master starts another one in its place.
        self.is_leaving = SharedFlag()

    @property
    def settings(self) -> ServerSettings:
        return MASTER.settings.server

    def init_signals(self) -> None:
        super().init_signals()  # type: ignore[misc] # gunicorn's worker comes after this one
        # Ctrl-C on a terminal goes to all processes: the master hears it and ends the workers, once.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        WORKER_SHUTDOWN.open()
        # The master blocked them before it forked, as they would have met its own handlers here, and been lost.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS_OF_THE_MASTER)
        # Where the limit is less than what any worker needs, each must still get something done.
        self._next_memory_check = time.monotonic() + LEAST_LIFE_SECONDS

    def init_process(self) -> None:
        """A worker that can't begin ends the whole gateway, which is right where none ever did. Where one did, it may
        be a file that is just being replaced, or a thread that can't be had: it is tried again."""
        try:
            super().init_process()  # type: ignore[misc]
        except Exception as error:
            if self.booted or not HAS_SERVED.is_raised:
                raise
            is_expected = isinstance(error, ClickException)
            text = "this worker can't start, and another one will try: %s"
            self.log.error(text, error, exc_info=None if is_expected else error)
            time.sleep(RETRY_SECONDS)
            # As an ordinary end with an error, not as gunicorn's own for a worker that can't start.
            sys.exit(1)

    def handle_usr1(self, sig: int, frame: Any) -> None:
        """For whoever moved the log away."""
        super().handle_usr1(sig, frame)  # type: ignore[misc]
        # Also before there is one: what is not there has opened no file.
        if telemetry := telemetry_of(getattr(self, "wsgi", None)):
            telemetry.reopen_log()

    def notify(self) -> None:
        """Called by gunicorn about once a second."""
        super().notify()  # type: ignore[misc]
        most, now = self.settings.max_worker_memory_mib, time.monotonic()
        if most and self.alive and now >= self._next_memory_check:
            self._next_memory_check = now + 1
            if (used := resident_bytes() >> 20) > most:
                self.log.warning("this worker has %s MiB of memory and makes room for a new one", used)
                WORKER_SHUTDOWN.retire()
