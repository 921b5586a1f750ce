"""What to do if file descriptors, memory, buffers or ports run out: resources are released if possible, and a line is
logged once in a while."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

from gateway.system.shutdown import WORKER_SHUTDOWN

EXHAUSTION_ERRORS = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL])
# Not every error is logged: once a resource is exhausted, every request has the same error.
LOG_INTERVAL_SECONDS = 10.0

log = logging.getLogger(__name__)
Made = TypeVar("Made")


def is_exhaustion(error: BaseException | None) -> bool:
    """Whether the error means that this process has no more descriptors, memory, buffers or ports."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in EXHAUSTION_ERRORS)


class ResourceExhaustion:
    """Reacts to exhausted resources. `spare` has functions that close resources which the process can do without, such
    as idle connections. Each returns whether there was anything to close."""

    def __init__(self) -> None:
        self._next_log = 0.0
        self.spare: list[Callable[[], bool]] = []

    def release_spare(self) -> bool:
        """Closes resources that the process can do without. Returns whether there were any: another attempt may then
        succeed."""
        return any(release() for release in self.spare)

    def with_spare(self, make: Callable[[], Made]) -> Made:
        """Returns the result of `make`. If resources are exhausted, calls `release_spare` and then `make` once more.
        Raises OSError."""
        try:
            return make()
        except OSError as error:
            if is_exhaustion(error) and self.release_spare():
                return make()
            raise

    def report(self, error: BaseException) -> None:
        """Logs the error once in a while. If this worker has no memory left, has it replaced."""
        if isinstance(error, MemoryError):
            # After a MemoryError any object may be in an inconsistent state.
            WORKER_SHUTDOWN.retire()
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + LOG_INTERVAL_SECONDS
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "out of memory"
            log.error("this worker (pid %s) has run out of a resource: %s", os.getpid(), reason)


RESOURCE_EXHAUSTION = ResourceExhaustion()
