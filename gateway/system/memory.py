"""The memory of this process: how much it uses, what the garbage collector skips, and what workers share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """The resident memory of this process; 0 if the system has no /proc."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@contextmanager
def build_without_garbage_collection() -> Iterator[None]:
    """Turns the garbage collector off while imports and the application are loaded, and makes it skip them afterwards:
    they stay until the process ends. It would go through all of them several times during the load, and once more at
    exit: a third of the CPU time of `flask check`."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def share_memory_with_workers(*, collect: bool) -> None:
    """Called in the master before it forks. Memory stays shared until a process writes to it. The garbage collector
    writes to each object that it goes through, so all objects are frozen: it then skips them.

    `collect` first removes what an earlier configuration has left behind; at the start there is nothing to remove."""
    if collect:
        gc.unfreeze()
        gc.collect()
    gc.freeze()
    # Collects rarely. A request leaves only one small cycle (Werkzeug's URL matching). Nearly all other objects that
    # are gone through again and again belong to cached tokens, which stay.
    gc.set_threshold(10_000, 20, 20)
