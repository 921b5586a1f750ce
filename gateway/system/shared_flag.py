"""A flag that all processes of a gateway share."""

from __future__ import annotations

import mmap


class SharedFlag:
    """A flag that can only be set. It is then set for this process and all processes that were forked after the flag
    was made. It may be set in a signal handler."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    @property
    def is_set(self) -> bool:
        return self._shared[0] != 0

    def set(self) -> None:
        self._shared[0] = 1
