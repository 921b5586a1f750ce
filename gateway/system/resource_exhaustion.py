"""Running out of file descriptors, memory, buffers or ports: logged once in a while, and relieved where possible."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

from gateway.system.shutdown import WORKER_SHUTDOWN

EXHAUSTION_ERRORS = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL])
# Once resources are exhausted, every request has the same error.
LOG_INTERVAL_SECONDS = 10.0

log = logging.getLogger(__name__)
Made = TypeVar("Made")


def is_exhaustion(error: BaseException | None) -> bool:
    """Whether the error means that this process has no more descriptors, memory, buffers or ports."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in EXHAUSTION_ERRORS)


class ResourceExhaustion:
    """`spare` has functions that close what the process can do without, such as idle connections, and return whether
    there was anything to close."""

    def __init__(self) -> None:
        self._next_log = 0.0
        self.spare: list[Callable[[], bool]] = []

    def release_spare(self) -> bool:
        """Closes what the process can do without; whether there was anything, so that another attempt may succeed."""
        return any(release() for release in self.spare)

    def with_spare(self, make: Callable[[], Made]) -> Made:
        """The result of `make`. If resources are exhausted, it is called again after a `release_spare`. Raises
        OSError."""
        try:
            return make()
        except OSError as error:
            if is_exhaustion(error) and self.release_spare():
                return make()
            raise

    def report(self, error: BaseException) -> None:
        """Logs the error, and has the worker replaced if it has no memory left."""
        if isinstance(error, MemoryError):
            # Any object may be left in an inconsistent state.
            WORKER_SHUTDOWN.retire()
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + LOG_INTERVAL_SECONDS
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "out of memory"
            log.error("this worker (pid %s) has run out of a resource: %s", os.getpid(), reason)


RESOURCE_EXHAUSTION = ResourceExhaustion()
