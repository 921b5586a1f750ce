"""A Redis that names a server which there can't be is a Redis that fails, and nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gateway.redis.client import FAILURES, SharedRedis
from gateway.redis.cluster import ClusterClient

# A node answers one command with one of these.
OK = b"+OK\r\n"


@contextmanager
def server(answer: Callable[[bytes, int], bytes]) -> Iterator[int]:
    """Speaks enough of Redis' protocol: `answer` gets a command as it came, and the server's own port."""
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
    """One node with all slots, as CLUSTER SLOTS tells it."""
    node = b"*2\r\n$%d\r\n%b\r\n%b" % (len(host), host, port)
    return b"*1\r\n*3\r\n:0\r\n:%d\r\n%b" % (last, node)


def number(value: int) -> bytes:
    return b":%d\r\n" % value


@pytest.mark.parametrize(
    "told",
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
def test_slots_of_a_node_that_there_cannot_be(told: bytes) -> None:
    with server(lambda *_: told) as port:
        redis = SharedRedis(f"redis+cluster://127.0.0.1:{port}", 5)
        with pytest.raises(FAILURES):
            redis.run("key", "GET", "key")


@pytest.mark.parametrize("kind", [b"MOVED", b"ASK"])
@pytest.mark.parametrize(
    "told", [b"127.0.0.1:70000", b"127.0.0.1:0", b"127.0.0.1:-1", b"127.0.0.1:x", b"127.0.0.1", b"a b:1", b"a/b:1", b""]
)
def test_a_redirection_to_a_node_that_there_cannot_be(kind: bytes, told: bytes) -> None:
    is_well = False

    def answer(command: bytes, port: int) -> bytes:
        if b"SLOTS" in command:
            return slots(b"127.0.0.1", number(port))
        return OK if is_well else b"-%b 1 %b\r\n" % (kind, told)

    with server(answer) as port:
        redis = SharedRedis(f"redis+cluster://127.0.0.1:{port}", 5)
        for _ in range(2):
            with pytest.raises(FAILURES):
                redis.run("key", "GET", "key")
        is_well = True
        # What it said is not remembered.
        assert redis.run("key", "GET", "key") == b"OK"
        assert isinstance(redis.cluster, ClusterClient)
        assert redis.cluster.addresses == {("127.0.0.1", port)}


@pytest.mark.parametrize("told", [b"70000", b"0", b"-1", b"x", b""])
def test_a_master_that_there_cannot_be(told: bytes) -> None:
    words = [b"name", b"main", b"ip", b"127.0.0.1", b"port", told, b"flags", b"master"]
    words += [b"num-other-sentinels", b"0", b"quorum", b"1"]
    masters = b"*1\r\n*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    with server(lambda *_: masters) as port:
        redis = SharedRedis(f"redis+sentinel://127.0.0.1:{port}/main/0", 5)
        with pytest.raises(FAILURES):
            redis.run("key", "GET", "key")
