"""Makes TCP connections to a host within a deadline: to the first of its addresses that accepts one (RFC 8305)."""

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

from gateway.system.dns import Address, resolve
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION

# If one of several addresses has not accepted after this time, the next one is tried beside it (RFC 8305 5).
ATTEMPT_DELAY_SECONDS = 0.25

# For each name with several addresses, the address of its last connection.
LAST_CONNECTED: dict[tuple[str, int], Address] = {}


def connect_to_any(host: str, port: int, deadline: float) -> socket.socket:
    """Connects to the first address that accepts. The lookup of the name and all attempts share the deadline (monotonic
    seconds). Raises TimeoutError after the deadline, or another OSError."""
    if not 0 < port < 65536:
        # The port may come from another server (Redis Cluster, Sentinel). The system's resolver would read 65616 as 80.
        raise OSError(errno.EINVAL, f"there is no port {port}")
    addresses = resolve(host, port, deadline - time.monotonic())
    # If no descriptor or port is free, idle connections are closed and the attempt is repeated.
    return RESOURCE_EXHAUSTION.with_spare(partial(connect_to_first, host, port, addresses, deadline))


def connect_to_first(host: str, port: int, addresses: Sequence[Address], deadline: float) -> socket.socket:
    if len(addresses) > 1:
        key = host, port
        first = LAST_CONNECTED.get(key)
        sock, LAST_CONNECTED[key] = connect_staggered(sort_for_attempts(addresses, first), deadline)
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


def sort_for_attempts(addresses: Sequence[Address], first: Address | None) -> list[Address]:
    """Sorts addresses: `first`, the address of the last connection, comes first. The others alternate between IPv6 and
    IPv4 (RFC 8305 4): if one of the two is unreachable, only every second attempt fails."""
    by_family: dict[int, list[Address]] = {}
    for address in dict.fromkeys(addresses):
        by_family.setdefault(address[0], []).append(address)
    ordered = [address for turn in zip_longest(*by_family.values()) for address in turn if address is not None]
    return sorted(ordered, key=lambda address: address != first)


def connect_staggered(addresses: Sequence[Address], deadline: float) -> tuple[socket.socket, Address]:
    """Connects to the first address that accepts, and returns the socket and that address (RFC 8305 5). The next
    address is tried as soon as one fails, or has not accepted after a delay. Raises TimeoutError after the deadline, or
    another OSError."""
    now = time.monotonic()
    # The delay is short enough for every address to be tried before the deadline.
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
                    sock = start_connecting(address)
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


def start_connecting(address: Address) -> socket.socket:
    """Starts to connect. The socket becomes writable when it is connected or has failed. Raises OSError."""
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
