"""Messages of several processes on one pipe, each of them whole.

The system writes 4096 bytes at once (PIPE_BUF of Linux); what is longer may be mixed with what others write. So whoever
writes holds a lock on the pipe. The system releases it when its holder dies.
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
# For each pipe, by its inode, whether its last message has no end: its writer was killed, or did not wait for longer.
# Memory that gunicorn's master shares with all that it forks.
_UNFINISHED = mmap.mmap(-1, 64)


def write_message(pipe: int, data: bytes, may_wait: Callable[[], bool]) -> bool:
    """Whether all of it was written, with nothing in between. `may_wait` waits for the pipe's reader, and says whether
    to try again. Raises OSError where there is no more reader.

    The descriptor itself must not be set not to block: whoever else has it would be, too. Where it can't be opened
    anew, as no descriptor is left or this is not Linux, the message may be mixed with others."""
    try:
        own = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return write_in_parts(pipe, data, may_wait)
    try:
        while not has_locked(own):
            get_original("time", "sleep")(PAUSE_SECONDS)
            if not may_wait():
                return False
        return write_locked(own, data, may_wait)
    finally:
        # gevent would put it off, and the lock with it.
        get_original("os", "close")(own)


def has_locked(pipe: int) -> bool:
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
        # As much fits into a pipe to which one can write.
        data = data[os.write(pipe, data[:PIPE_BYTES]) :]
    return True
