"""Temporary folders of a process. They are removed after the process has ended, however it ended.

The owner holds a lock on its folder, which the system releases when the last process that holds it ends. The next
process that makes such a folder removes those without a lock. A process id in the name would not identify the owner:
containers that share /tmp each have a process 1."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from gateway.system.cleanup import run_at_exit, signals_blocked

# Descriptors that hold locks. They stay open in this process and its forks.
_locks: list[int] = []


def make_own_folder(prefix: str) -> Path:
    """Makes a new folder that only this user can enter. Removes folders with the same prefix whose owners have
    ended."""
    remove_abandoned(prefix)
    lock = None
    with signals_blocked():
        # Another process may remove the folder before it is locked.
        while lock is None:
            folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
            lock = lock_folder(folder)
        _locks.append(lock)
        run_at_exit(partial(shutil.rmtree, folder, ignore_errors=True))
    return folder


def remove_abandoned(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(prefix + "*"):
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid() and (lock := lock_folder(folder, must_lock=True)) is not None:
                try:
                    shutil.rmtree(folder)
                finally:
                    os.close(lock)


def lock_folder(folder: Path, *, must_lock: bool = False) -> int | None:
    """Returns a descriptor that holds the folder's lock; None if another process holds it, or the folder is gone.

    If the file system has no locks: with `must_lock` returns None, otherwise a descriptor without a lock. The folder
    then stays if the process is killed."""
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
