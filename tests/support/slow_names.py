"""The gateway on a machine with a slow name server: lookups of *.slow.test hang while a file exists. The name
two.several.test has two addresses."""

from __future__ import annotations

import _socket
import os
import time
from typing import Any

from gevent.monkey import get_original

HANGS_WHILE = os.environ["NAMES_HANG_WHILE"]
MOST_SECONDS = 60.0
look_up, sleep = _socket.getaddrinfo, get_original("time", "sleep")


def look_up_slowly(host: Any, *arguments: Any, **more: Any) -> Any:
    if "two.several.test" in str(host):
        return look_up("127.0.0.2", *arguments, **more) + look_up("127.0.0.1", *arguments, **more)
    if not str(host).endswith(".slow.test"):
        return look_up(host, *arguments, **more)
    deadline = time.monotonic() + MOST_SECONDS
    while os.path.exists(HANGS_WHILE) and time.monotonic() < deadline:
        # The lookup runs in a native thread, so this sleep must not be gevent's.
        sleep(0.02)
    return look_up("127.0.0.1", *arguments, **more)


_socket.getaddrinfo = look_up_slowly

from wsgi import app  # noqa: E402, F401 - builds everything
