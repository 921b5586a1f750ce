"""Looks up the addresses of host names, within a deadline even if the name server takes longer."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Any

# Callers share a lookup for SHARED_SECONDS; later ones start another lookup beside it. At most MAX_LOOKUPS run at once.
SHARED_SECONDS = 0.5
MAX_LOOKUPS = 3

# An entry of the result of `socket.getaddrinfo`: family, kind, protocol, canonical name, address.
Address = tuple[int, int, int, str, Any]


def resolve(host: str, port: int, timeout_seconds: float) -> Sequence[Address]:
    """The addresses of a host. Every call for a name needs a lookup, as results are not cached. Raises TimeoutError if
    the lookup takes longer, or another OSError."""
    if (address := parse_address(host, port)) is not None:
        return [address]
    name = NAMES.get((host, port))
    if name is None:
        name = NAMES.setdefault((host, port), Name(host, port))
    return name.resolve(timeout_seconds)


def parse_address(host: str, port: int) -> Address | None:
    """The address if the host is an IP address, else None."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)
    return None


class Name:
    """A name that is being looked up by the system's resolver.

    A lookup can't be cancelled, and takes up to half a minute if the name server does not reply. So each lookup has its
    own thread, which continues after the callers' deadline. Callers share a lookup for a moment. After that, its packet
    may be lost, so another lookup is started beside it; the first result counts for all callers."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._result: Future[Sequence[Address]] = Future()
        # The start time of each running lookup.
        self._running: list[float] = []

    def resolve(self, timeout_seconds: float) -> Sequence[Address]:
        result, now = self._result, time.monotonic()
        if len(self._running) < MAX_LOOKUPS and all(now - started > SHARED_SECONDS for started in self._running):
            self._start(now)
        try:
            error = result.exception(max(0, timeout_seconds))
        except TimeoutError:
            raise TimeoutError("the name was not looked up in time") from None
        if error is not None:
            raise error.with_traceback(None)
        return result.result()

    def _start(self, now: float) -> None:
        self._running.append(now)
        try:
            Thread(target=self._look_up, args=(now,), name=f"lookup of {self._host}", daemon=True).start()
        except BaseException as error:
            self._finish(now, (), no_thread())
            if not isinstance(error, RuntimeError):
                raise

    def _look_up(self, started: float) -> None:
        try:
            addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except RuntimeError:
            # gevent could not start the native thread that does the lookup.
            self._finish(started, (), no_thread())
        except Exception as error:
            self._finish(started, (), error)
        else:
            self._finish(started, addresses, None)

    def _finish(self, started: float, addresses: Sequence[Address], error: Exception | None) -> None:
        self._running.remove(started)
        if error is not None and self._running:
            # The error is ignored, as another running lookup may succeed.
            return
        if not self._running:
            NAMES.pop((self._host, self._port), None)
        # This result is for the callers that wait now. Callers that come later need a new lookup.
        result, self._result = self._result, Future()
        if error is None:
            result.set_result(addresses)
        else:
            result.set_exception(error)


def no_thread() -> OSError:
    return OSError(errno.ENOMEM, "no thread can be started")


NAMES: dict[tuple[str, int], Name] = {}
# A fork starts without lookups: the threads of the running ones exist only in the parent.
os.register_at_fork(after_in_child=NAMES.clear)
