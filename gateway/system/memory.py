"""The memory of this process: how much it is, what the garbage collector spares, and what workers share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """The resident memory of this process; 0 where the system has no /proc."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@contextmanager
def build_without_garbage_collection() -> Iterator[None]:
    """For imports and for the application, which stay until the process ends. The garbage collector would go through
    all of it several times while it is built, and once more at exit: a third of the CPU time of `flask check`."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def share_memory_with_workers(*, collect: bool) -> None:
    """To be called in the master before it forks. Memory stays shared until a process writes to it, and the garbage
    collector writes to each object that it goes through; it does not go through frozen ones. `collect` removes what an
    earlier configuration left behind first; a start leaves nothing behind."""
    if collect:
        gc.unfreeze()
        gc.collect()
    gc.freeze()
    # A request leaves one small cycle (Werkzeug's URL matching). Nearly all else that is collected over and over
    # belongs to cached tokens, which stay.
    gc.set_threshold(10_000, 20, 20)
