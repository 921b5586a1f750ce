"""Connections by TCP to a host by name or address, in a bounded time, however long its name server takes."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Sequence
from threading import Event, Thread
from typing import Any

# How long a question is shared by those who have it, too, and how many there may be at once.
SHARED_SECONDS = 0.5
MOST_AT_ONCE = 3

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
        except OverflowError as error:
            # A port that there can't be, as another server told it.
            sock.close()
            failure = OSError(str(error))
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
    name = NAMES.get((host, port))
    if name is None:
        name = NAMES.setdefault((host, port), Name(host, port))
    return name.ask(seconds)


def literal(host: str, port: int) -> Address | None:
    """The address that a host is already, where it is one."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)
    return None


class Answer:
    """What becomes of a question, for all who have it at the same time."""

    def __init__(self) -> None:
        self._is_there = Event()
        self._found: Sequence[Address] = ()
        self._failure: Exception | None = None

    def give(self, found: Sequence[Address], failure: Exception | None) -> None:
        self._found, self._failure = found, failure
        self._is_there.set()

    def wait(self, seconds: float) -> Sequence[Address]:
        if not self._is_there.wait(max(0, seconds)):
            raise TimeoutError("the name was not looked up in time")
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        return self._found


class Name:
    """A name that is being asked for, of the system's resolver.

    A question can't be taken back, and may take half a minute where a name server does not answer: it has a thread of
    its own, which whoever asked leaves behind when their time is over. All who ask within a moment share one; after
    that it may have been lost on its way, and another one is asked beside it, whose answer is as good for all."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._answer = Answer()
        # When those that are under way were begun.
        self._begun: list[float] = []

    def ask(self, seconds: float) -> Sequence[Address]:
        answer, now = self._answer, time.monotonic()
        if len(self._begun) < MOST_AT_ONCE and all(now - begun > SHARED_SECONDS for begun in self._begun):
            self._begin(now)
        return answer.wait(seconds)

    def _begin(self, now: float) -> None:
        self._begun.append(now)
        try:
            Thread(target=self._look_up, args=(now,), name=f"look-up of {self._host}", daemon=True).start()
        except BaseException as error:
            self._end(now, (), no_thread())
            if not isinstance(error, RuntimeError):
                raise

    def _look_up(self, begun: float) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except RuntimeError:
            # gevent looks up in a thread of the system's.
            self._end(begun, (), no_thread())
        except Exception as error:
            self._end(begun, (), error)
        else:
            self._end(begun, found, None)

    def _end(self, begun: float, found: Sequence[Address], failure: Exception | None) -> None:
        self._begun.remove(begun)
        if failure is not None and self._begun:
            # Another one may know.
            return
        if not self._begun:
            NAMES.pop((self._host, self._port), None)
        # Whoever asks from now on has it looked up anew.
        answer, self._answer = self._answer, Answer()
        answer.give(found, failure)


def no_thread() -> OSError:
    return OSError(errno.ENOMEM, "no thread can be had")


NAMES: dict[tuple[str, int], Name] = {}
# The threads of those that were asked for stayed with the parent.
os.register_at_fork(after_in_child=NAMES.clear)
