"""Running out of what the system gives a process: told as the gateway's own trouble, which it is, and rarely."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

from gateway.system.shutdown import WORKER_SHUTDOWN

OUT_OF = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL])
# One line in so many seconds: it happens to every request then.
TOLD_EVERY_SECONDS = 10.0

log = logging.getLogger(__name__)
Made = TypeVar("Made")


def is_exhaustion(error: BaseException | None) -> bool:
    """Whether this process has no more descriptors, memory, buffers or ports: nobody else's fault."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in OUT_OF)


class ResourceExhaustion:
    """Logs that it has come to that, once in a while, and has a worker without memory replaced. Each of `spare` closes
    what the process can do without, and returns whether there was something to be closed."""

    def __init__(self) -> None:
        self._next: float = 0.0
        self.spare: list[Callable[[], bool]] = []

    def release_spare(self) -> bool:
        """Gives back what the process can do without; whether there was something, so that trying again is worth it."""
        return any(release() for release in self.spare)

    def with_spare(self, make: Callable[[], Made]) -> Made:
        """What `make` gives; where it can't for being out of something, it is tried again with what can be given back.
        Raises OSError."""
        try:
            return make()
        except OSError as error:
            if is_exhaustion(error) and self.release_spare():
                return make()
            raise

    def tell(self, error: BaseException) -> None:
        if isinstance(error, MemoryError):
            # What is left after that may be in any state.
            WORKER_SHUTDOWN.retire()
        now = time.monotonic()
        if now >= self._next:
            self._next = now + TOLD_EVERY_SECONDS
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "out of memory"
            log.error("this worker (pid %s) has run out of something: %s", os.getpid(), reason)


RESOURCE_EXHAUSTION = ResourceExhaustion()
