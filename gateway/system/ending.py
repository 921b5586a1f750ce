"""How the end of the gateway is told to who must know of it before: the readiness check, and streams without an end.

The master announces its own end to all workers, before it asks them to end; a worker tells its own end to the streams
that it is in. Both work from a signal's handler.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from gateway.system.flags import SharedFlag


class WorkerEnd:
    """Tells this worker's end to whoever waits for something else at the moment: a descriptor that becomes readable
    then, and stays so."""

    def __init__(self) -> None:
        self._reader: int | None = None
        self._writer: int | None = None
        self.is_told = False

    def open(self) -> None:
        """To be called in the worker, after it was forked."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    @property
    def descriptor(self) -> int | None:
        """None where this process is no worker."""
        return self._reader

    def tell(self) -> None:
        self.is_told = True
        if self._writer is not None:
            with suppress(BlockingIOError):
                os.write(self._writer, b"!")

    def retire(self) -> None:
        """Has this worker finish what it does and end, so that its master starts another."""
        if self._writer is not None:
            os.kill(os.getpid(), signal.SIGTERM)


# Whether the whole gateway is about to end, and not just one of its workers.
GATEWAY_END = SharedFlag()
WORKER_END = WorkerEnd()
