"""Operations on any kind of socket: the system's, gevent's, with TLS or without."""

from __future__ import annotations

import _socket
import select
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from gevent import Greenlet, get_hub
from gevent.event import Event
from gevent.monkey import get_original

from gateway.system.fair_scheduling import restart_slice, yield_if_due
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION

READABLE = 1  # as libev names it


def receive(sock: Any, size: int) -> bytes:
    """Returns between 1 and `size` bytes as they arrive, and none at the end of the connection. Lets other greenlets
    run in between, even if the bytes have always arrived already. Raises OSError."""
    yield_if_due()
    data: bytes = sock.recv(size)
    return data


def receive_arrived(sock: Any, size: int) -> bytes | None:
    """Like `receive`, but does not wait: returns None if no bytes have arrived, or only bytes of the TLS protocol
    itself. Restores the socket's timeout, which another greenlet may need for sending. Raises OSError."""
    yield_if_due()
    timeout = sock.gettimeout()
    sock.settimeout(0)
    try:
        data: bytes | None = sock.recv(size)
    except (BlockingIOError, ssl.SSLWantReadError):
        data = None
    finally:
        sock.settimeout(timeout)
    return data


def send_all(sock: socket.socket, data: bytes) -> None:
    """Sends all bytes. If the socket accepts them at once, this is a single call, which costs less than gevent's own
    `sendall`."""
    yield_if_due()
    sent = sock.send(data) if data else 0
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


def wait_until_readable(sock: Any) -> None:
    """Waits until `recv` has something to return. Worth calling between a send and a `recv`: gevent's `recv` first
    tries to read. As no response can be there yet, the attempt fails, and it costs more than the send. Raises
    OSError."""
    event = getattr(sock, "_read_event", None)
    # A TLS socket is not waited for, as its buffer may already have the bytes.
    if event is not None and not isinstance(sock, ssl.SSLSocket):
        sock._wait(event)
        restart_slice()


def system_poll(sock: socket.socket | int, event: int = select.POLLIN) -> select.poll:
    """Makes a poll object of the system, even if gevent has replaced that class. Its `poll(0)` returns at once, and
    shows whether there is something to read or the peer has gone."""
    poll: select.poll = original("poll")()
    poll.register(sock, event)
    return poll


def wait_for_events(events: Mapping[int, int], seconds: float, interruption: Event | None = None) -> set[int]:
    """Waits for events (those of poll(2)) and returns the descriptors that have one. Returns none after the timeout, or
    once `interruption` is set.

    gevent's poll supports only reading and writing. With epoll, gevent can wait for the epoll's own descriptor, and so
    for the end of a connection behind unread bytes (POLLRDHUP). Without epoll, only reading and writing are waited
    for."""
    epoll = original("epoll")
    if epoll is None:
        poll: Any = select.poll()
        for descriptor, event in events.items():
            if event:
                poll.register(descriptor, event)
        return {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
    with RESOURCE_EXHAUSTION.with_spare(partial(epoll, sizehint=len(events))) as poll:
        for descriptor, event in events.items():
            poll.register(descriptor, event)
        wait_until_readable_or(interruption, poll.fileno(), seconds)
        return {descriptor for descriptor, _ in poll.poll(0)}


def wait_until_readable_or(other: Event | Greenlet | None, descriptor: int, seconds: float | None = None) -> None:
    """Waits until the descriptor is readable, or `other` has happened (the event is set, the greenlet has ended), or
    the time is over."""
    has_happened = Event()

    def notify(_: Event | Greenlet) -> None:
        has_happened.set()

    # A watcher of its own: another greenlet may be waiting for the same descriptor.
    watcher = get_hub().loop.io(descriptor, READABLE)
    watcher.start(has_happened.set)
    if other is not None:
        other.rawlink(notify)
    try:
        has_happened.wait(seconds)
    finally:
        if other is not None:
            other.unlink(notify)
        watcher.stop()
        watcher.close()


def original(name: str) -> Any:
    """The system's own class of this name in the module `select`, which gevent has replaced or removed; None if the
    system has none."""
    with suppress(AttributeError):
        return get_original("select", name)
    return None


def peek(sock: socket.socket) -> bytes | None:
    """Returns the next byte without reading it, b"" if the peer has closed the connection, None if no byte has arrived.
    With TLS, the byte is encrypted. Never waits. Raises OSError."""
    # A socket of gevent contains the system's socket.
    raw: _socket.socket = getattr(sock, "_sock", sock)
    timeout = raw.gettimeout()
    try:
        if timeout != 0:
            raw.settimeout(0)
        # Calls the method of the base class, as the method of TLS sockets accepts no flags.
        return _socket.socket.recv(raw, 1, _socket.MSG_PEEK)
    except BlockingIOError:
        return None
    finally:
        if timeout != 0:
            with suppress(OSError):
                raw.settimeout(timeout)
