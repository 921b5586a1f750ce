"""The gateway with a report on standard error for every gevent lock that is acquired outside of the thread that serves
requests.

Two native threads that wait for the same gevent lock may wait for ever.
"""

from __future__ import annotations

import os
import traceback
from _thread import get_native_id
from typing import Any

from gevent.thread import LockType

acquire = LockType.acquire


def report_and_acquire(self: Any, *arguments: Any) -> bool:
    if get_native_id() != os.getpid():
        os.write(2, f"A lock was acquired outside of the main thread:\n{''.join(traceback.format_stack())}\n".encode())
    acquired: bool = acquire(self, *arguments)
    return acquired


LockType.acquire = LockType.__enter__ = report_and_acquire

from wsgi import app  # noqa: E402, F401 - builds everything
