"""The gateway; reports on standard error every gevent lock acquired outside of the thread that serves requests.

Two threads that wait for one may wait for ever.
"""

from __future__ import annotations

import os
import traceback
from _thread import get_native_id
from typing import Any

from gevent.thread import LockType

take = LockType.acquire


def tell_and_take(self: Any, *arguments: Any) -> bool:
    if get_native_id() != os.getpid():
        os.write(2, f"A lock was taken aside:\n{''.join(traceback.format_stack())}\n".encode())
    taken: bool = take(self, *arguments)
    return taken


LockType.acquire = LockType.__enter__ = tell_and_take

from wsgi import app  # noqa: E402, F401 - builds everything
