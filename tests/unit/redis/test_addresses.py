"""Invalid addresses in replies of cluster nodes and sentinels are failures of Redis."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gateway.redis.client import FAILURES, SharedRedis
from gateway.redis.cluster import ClusterClient

# The reply to a command that the server accepts.
OK = b"+OK\r\n"


@contextmanager
def server(answer: Callable[[bytes, int], bytes]) -> Iterator[int]:
    """A server on a free port. `answer` gets the bytes of a command and this port, and returns the reply."""
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]

    def serve(connection: socket.socket) -> None:
        with connection:
            while command := connection.recv(65536):
                connection.sendall(answer(command, port))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield port
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def slots(host: bytes, port: bytes, last: int = 16383) -> bytes:
    """The reply to CLUSTER SLOTS with one node."""
    node = b"*2\r\n$%d\r\n%b\r\n%b" % (len(host), host, port)
    return b"*1\r\n*3\r\n:0\r\n:%d\r\n%b" % (last, node)


def number(value: int) -> bytes:
    return b":%d\r\n" % value


@pytest.mark.parametrize(
    "reply",
    [
        slots(b"127.0.0.1", number(70000)),
        slots(b"127.0.0.1", number(65616)),
        slots(b"127.0.0.1", number(0)),
        slots(b"127.0.0.1", number(-1)),
        slots(b"127.0.0.1", b"$1\r\nx\r\n"),
        slots(b"127.0.0.1", b"$-1\r\n"),
        slots(b"a/b", number(6379)),
        slots(b"a b", number(6379)),
        slots(b"a@b?db=1", number(6379)),
        slots(b"\xff", number(6379)),
        slots(b"127.0.0.1", number(6379), last=10**12),
        slots(b"127.0.0.1", number(6379), last=-1),
        b"*0\r\n",
        b"*1\r\n:1\r\n",
        b"$4\r\nabcd\r\n",
    ],
)
def test_slots_of_an_invalid_address(reply: bytes) -> None:
    with server(lambda *_: reply) as port:
        redis = SharedRedis(f"redis+cluster://127.0.0.1:{port}", 5)
        with pytest.raises(FAILURES):
            redis.run("key", "GET", "key")


@pytest.mark.parametrize("kind", [b"MOVED", b"ASK"])
@pytest.mark.parametrize(
    "address",
    [b"127.0.0.1:70000", b"127.0.0.1:0", b"127.0.0.1:-1", b"127.0.0.1:x", b"127.0.0.1", b"a b:1", b"a/b:1", b""],
)
def test_a_redirection_to_an_invalid_address(kind: bytes, address: bytes) -> None:
    is_well = False

    def answer(command: bytes, port: int) -> bytes:
        if b"SLOTS" in command:
            return slots(b"127.0.0.1", number(port))
        return OK if is_well else b"-%b 1 %b\r\n" % (kind, address)

    with server(answer) as port:
        redis = SharedRedis(f"redis+cluster://127.0.0.1:{port}", 5)
        for _ in range(2):
            with pytest.raises(FAILURES):
                redis.run("key", "GET", "key")
        is_well = True
        # The client has not stored the invalid redirection.
        assert redis.run("key", "GET", "key") == b"OK"
        assert isinstance(redis.cluster, ClusterClient)
        assert redis.cluster.addresses == {("127.0.0.1", port)}


@pytest.mark.parametrize("address", [b"70000", b"0", b"-1", b"x", b""])
def test_a_master_with_an_invalid_address(address: bytes) -> None:
    words = [b"name", b"main", b"ip", b"127.0.0.1", b"port", address, b"flags", b"master"]
    words += [b"num-other-sentinels", b"0", b"quorum", b"1"]
    masters = b"*1\r\n*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    with server(lambda *_: masters) as port:
        redis = SharedRedis(f"redis+sentinel://127.0.0.1:{port}/main/0", 5)
        with pytest.raises(FAILURES):
            redis.run("key", "GET", "key")
