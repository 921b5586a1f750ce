"""Writes whole messages to a pipe that several processes write to.

Linux writes up to 4096 bytes (PIPE_BUF) in one piece; a longer message may be mixed with those of other processes. So
writers hold a lock on the pipe, which the system releases if its holder dies.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable
from contextlib import suppress

from gevent.monkey import get_original

PIPE_BYTES = 4096
PAUSE_SECONDS = 0.001
# For each pipe, by its inode: 1 if the last message is incomplete, because its writer was killed or gave up. The memory
# is shared by gunicorn's master and its forks.
_UNFINISHED = mmap.mmap(-1, 64)


def write_message(pipe: int, data: bytes, may_wait: Callable[[], bool]) -> bool:
    """Writes the message in one piece. Returns whether all of it was written. `may_wait` waits for the pipe's reader,
    and returns whether to try again. Raises OSError if the pipe has no reader.

    The pipe is opened again, as O_NONBLOCK on the descriptor itself would affect all processes that share it. If it
    can't be opened (no free descriptor, or not on Linux), the message may be mixed with those of other processes."""
    try:
        own = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return write_in_parts(pipe, data, may_wait)
    try:
        while not try_lock(own):
            get_original("time", "sleep")(PAUSE_SECONDS)
            if not may_wait():
                return False
        return write_locked(own, data, may_wait)
    finally:
        # Closing the pipe releases the lock. gevent's os.close would delay both.
        get_original("os", "close")(own)


def try_lock(pipe: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(pipe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def write_locked(own: int, data: bytes, may_wait: Callable[[], bool]) -> bool:
    slot = os.fstat(own).st_ino % len(_UNFINISHED)
    was_unfinished = _UNFINISHED[slot]
    if was_unfinished:
        data = b"\n" + data
    if len(data) > PIPE_BYTES:
        _UNFINISHED[slot] = 1
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(own, left) :]
        except BlockingIOError:
            if not may_wait():
                _UNFINISHED[slot] = 1 if len(left) < len(data) else was_unfinished
                return False
    _UNFINISHED[slot] = 0
    return True


def write_in_parts(pipe: int, data: bytes, may_wait: Callable[[], bool]) -> bool:
    while data:
        if not may_wait():
            return False
        # A pipe that is ready for writing has room for this many bytes.
        data = data[os.write(pipe, data[:PIPE_BYTES]) :]
    return True
