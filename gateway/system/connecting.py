"""Connections by TCP to a host by name or address, in a bounded time, however long its name server takes."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Sequence
from threading import Event, Thread
from typing import Any

# As `socket.getaddrinfo` tells them: family, kind, protocol, canonical name, address.
Address = tuple[int, int, int, str, Any]


def connect_to_any(host: str, port: int, deadline: float) -> socket.socket:
    """A connection to the first address that takes one; all of them, and the look-up of the name, share the deadline
    (monotonic seconds). Raises OSError, of which TimeoutError when it is over."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses_of(host, port, deadline - time.monotonic()):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(remaining)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError("the name has no address")


def addresses_of(host: str, port: int, seconds: float) -> Sequence[Address]:
    """The addresses of a host, its name looked up now. Raises OSError, of which TimeoutError when that takes longer."""
    if (known := literal(host, port)) is not None:
        return [known]
    lookup = UNDER_WAY.get((host, port))
    if lookup is None:
        lookup = Lookup(host, port)
        lookup.start()
    return lookup.wait(seconds)


def literal(host: str, port: int) -> Address | None:
    """The address that a host is already, where it is one."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)
    return None


class Lookup:
    """One question to the system's resolver, for all who have it at the same time.

    It can't be told to give up, and may take half a minute where a name server does not answer: it has a thread of its
    own, which whoever asked leaves behind when their time is over. As there is but one for a name, it does not take
    from the others those few threads that gevent has for such questions."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._is_over = Event()
        self._found: Sequence[Address] = ()
        self._failure: Exception | None = None

    def start(self) -> None:
        """Raises OSError where there is no thread for it."""
        UNDER_WAY[self._host, self._port] = self
        try:
            Thread(target=self._run, name=f"look-up of {self._host}", daemon=True).start()
        except BaseException as error:
            self._end()
            if isinstance(error, RuntimeError):
                raise no_thread() from error
            raise

    def wait(self, seconds: float) -> Sequence[Address]:
        if not self._is_over.wait(max(0, seconds)):
            raise TimeoutError("the name was not looked up in time")
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        return self._found

    def _run(self) -> None:
        try:
            self._found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except RuntimeError:
            # gevent looks up in a thread of the system's.
            self._failure = no_thread()
        except Exception as error:
            self._failure = error
        finally:
            self._end()

    def _end(self) -> None:
        # Whoever asks from now on has it looked up anew.
        UNDER_WAY.pop((self._host, self._port), None)
        self._is_over.set()


def no_thread() -> OSError:
    return OSError(errno.ENOMEM, "no thread can be had")


UNDER_WAY: dict[tuple[str, int], Lookup] = {}
# The threads of those that were stayed with the parent.
os.register_at_fork(after_in_child=UNDER_WAY.clear)
