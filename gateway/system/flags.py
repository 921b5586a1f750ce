"""What all processes of a gateway know of one another."""

from __future__ import annotations

import mmap


class SharedFlag:
    """Raised by one process, and seen by all: those forked from the one that made it share its one byte. It works from
    a signal's handler."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    @property
    def is_raised(self) -> bool:
        return self._shared[0] != 0

    def set(self) -> None:
        self._shared[0] = 1
