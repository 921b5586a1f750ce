"""Connections by TCP to a host by name or address, in a bounded time, however long its name server takes."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from threading import Event, Thread
from typing import Any

from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION

# How long a question is shared by those who have it, too, and how many there may be at once.
SHARED_SECONDS = 0.5
MOST_AT_ONCE = 3
# How long one address of several may take before the next one is tried beside it (RFC 8305 5).
ATTEMPT_DELAY_SECONDS = 0.25

# As `socket.getaddrinfo` tells them: family, kind, protocol, canonical name, address.
Address = tuple[int, int, int, str, Any]

# Of names with several addresses, the address that took the last connection.
LAST_CONNECTED: dict[tuple[str, int], Address] = {}


def connect_to_any(host: str, port: int, deadline: float) -> socket.socket:
    """A connection to the first address that takes one; all of them, and the look-up of the name, share the deadline
    (monotonic seconds). Raises OSError, of which TimeoutError when it is over."""
    if not 0 < port < 65536:
        # As another server may have told it. The system's resolver would take 65616 for 80.
        raise OSError(errno.EINVAL, f"there is no port {port}")
    addresses = addresses_of(host, port, deadline - time.monotonic())
    # Idle connections hold descriptors, and ports, that are needed more here.
    return RESOURCE_EXHAUSTION.with_spare(partial(connect_to_first, host, port, addresses, deadline))


def connect_to_first(host: str, port: int, addresses: Sequence[Address], deadline: float) -> socket.socket:
    if len(addresses) > 1:
        key = host, port
        first = LAST_CONNECTED.get(key)
        sock, LAST_CONNECTED[key] = connect_staggered(in_order_of_attempts(addresses, first), deadline)
        return sock
    for family, kind, protocol, _, address in addresses:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(remaining)
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock
    raise OSError("the name has no address")


def in_order_of_attempts(addresses: Sequence[Address], first: Address | None) -> list[Address]:
    """The one that worked last, then the families in turn (RFC 8305 4): where one family can't be reached, only every
    second attempt fails."""
    by_family: dict[int, list[Address]] = {}
    for address in dict.fromkeys(addresses):
        by_family.setdefault(address[0], []).append(address)
    ordered = [address for turn in zip_longest(*by_family.values()) for address in turn if address is not None]
    return sorted(ordered, key=lambda address: address != first)


def connect_staggered(addresses: Sequence[Address], deadline: float) -> tuple[socket.socket, Address]:
    """A connection to the first address that answers, and that address (RFC 8305 5). The next one is tried when one
    fails, or has not answered for a moment. Raises OSError, of which TimeoutError when the deadline is over."""
    now = time.monotonic()
    # Where there is little time, each address still gets its turn.
    delay = min(ATTEMPT_DELAY_SECONDS, (deadline - now) / len(addresses))
    untried, next_at = deque(addresses), now
    pending: dict[int, tuple[socket.socket, Address]] = {}
    poll, failure = select.poll(), OSError("the name has no address")
    try:
        while untried or pending:
            if now >= deadline:
                raise TimeoutError
            if untried and now >= next_at:
                address, next_at = untried.popleft(), now + delay
                try:
                    sock = begin_to_connect(address)
                except OSError as error:
                    failure, next_at = error, now
                    continue
                pending[sock.fileno()] = sock, address
                poll.register(sock, select.POLLOUT)
            remaining = (min(deadline, next_at) if untried else deadline) - now
            for descriptor, _ in poll.poll(max(0.0, remaining) * 1000):
                sock, address = pending[descriptor]
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    del pending[descriptor]
                    return sock, address
                poll.unregister(descriptor)
                pending.pop(descriptor)[0].close()
                failure, next_at = OSError(code, os.strerror(code)), now
            now = time.monotonic()
        raise failure
    finally:
        for sock, _ in pending.values():
            sock.close()


def begin_to_connect(address: Address) -> socket.socket:
    """A socket that will be writable when it is connected, or has failed to be. Raises OSError."""
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.connect(where)
    except BlockingIOError:
        pass
    except BaseException:
        sock.close()
        raise
    return sock


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
