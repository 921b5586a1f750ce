"""Temporary folders that belong to one process, and are removed after it however it ended.

The owner holds a lock on its folder, which the system releases when the last process that has it ends. A process id in
the name would prove nothing: containers that share /tmp each have a process 1 of their own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from gateway.system.cleanup import at_end, signals_wait

# Of the folders that this process made: as long as it lives, and those that it forked.
_locks: list[int] = []


def make_own_folder(prefix: str) -> Path:
    """A new folder that only this user can enter; those under the same prefix whose owners have ended are removed."""
    remove_left_behind(prefix)
    lock = None
    with signals_wait():
        # Whoever removes folders may come between the making and the locking of one.
        while lock is None:
            folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
            lock = lock_folder(folder)
        _locks.append(lock)
        at_end(partial(shutil.rmtree, folder, ignore_errors=True))
    return folder


def remove_left_behind(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(prefix + "*"):
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid() and (lock := lock_folder(folder, must_lock=True)) is not None:
                try:
                    shutil.rmtree(folder)
                finally:
                    os.close(lock)


def lock_folder(folder: Path, *, must_lock: bool = False) -> int | None:
    """A descriptor that holds the folder's lock; None where another process holds it, or the folder is gone.

    A file system without locks is no reason not to start: the folder just stays behind if the process is killed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        if not must_lock:
            return descriptor
    os.close(descriptor)
    return None
