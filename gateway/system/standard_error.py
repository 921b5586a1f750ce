"""Standard error that nobody waits for: what its reader does not take at once is lost, and counted.

Messages are written wherever something happens: in the loop that serves all requests, and in gunicorn's master. A pipe
that nobody reads any more would stop both for good at the first message that does not fit.
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from typing import Any

from gateway.system.sockets import system_poll

# As much fits into a pipe to which one can write.
AT_ONCE = 4096


class UnwaitingErrors(io.RawIOBase):
    """Takes all that is written, and passes on what fits."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = system_poll(descriptor, select.POLLOUT)
        self._lost = 0

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self._lost and self._fits():
            note = b"%d messages to standard error were lost, as nobody took them\n" % self._lost
            self._lost = 0
            self._pass_on(note)
        self._pass_on(bytes(data))
        return len(data)

    def _pass_on(self, data: bytes) -> None:
        for at in range(0, len(data), AT_ONCE):
            try:
                if self._fits():
                    os.write(self._descriptor, data[at : at + AT_ONCE])
                    continue
            except OSError:
                """Its reader has gone."""
            self._lost += 1
            return

    def _fits(self) -> bool:
        return any(event & select.POLLOUT for _, event in self._poll.poll(0))


def wait_for_no_reader() -> None:
    """Has messages of this process, and of those forked from it, wait for nobody. Terminals and files stay as they
    are."""
    if isinstance(getattr(sys.stderr, "buffer", None), UnwaitingErrors):
        return
    try:
        descriptor = sys.stderr.fileno()
        kind = os.fstat(descriptor).st_mode
    except (OSError, ValueError, AttributeError):
        return
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        raw: Any = UnwaitingErrors(descriptor)
        sys.stderr = io.TextIOWrapper(raw, sys.stderr.encoding, errors="backslashreplace", write_through=True)
