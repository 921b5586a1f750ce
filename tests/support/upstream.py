"""A scripted upstream: it records the received bytes and responds as a test configures it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n" + b'{"ok":true}'


@dataclass
class Received:
    """A received request. `is_whole` is whether its body is complete."""

    head: bytes
    connection: int
    # A script reads the body from here: part of it may have arrived with the head.
    stream: BufferedReader
    body: bytes = b""
    is_whole: bool = False
    method: str = field(init=False)
    target: str = field(init=False)
    fields: list[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        lines = self.head.decode("latin-1").split("\r\n")
        self.method, self.target, version = lines[0].split(" ")
        assert version == "HTTP/1.1"
        self.fields = []
        for line in lines[1:]:
            if line:
                name, _, value = line.partition(":")
                self.fields.append((name, value.strip()))

    def values(self, name: str) -> list[str]:
        """The values of a header, whatever the case of its name is."""
        wanted = name.lower().replace("_", "-")
        return [value for key, value in self.fields if key.lower().replace("_", "-") == wanted]


# A script gets the request and the connection, and writes the response. It returns True to keep the connection.
Script = Callable[[Received, socket.socket], bool]


def answering(data: bytes, *, keep: bool = True) -> Script:
    def script(_: Received, connection: socket.socket) -> bool:
        connection.sendall(data)
        return keep

    return script


def waiting_for_the_end(has_ended: threading.Event) -> Script:
    """A script that sends no response, and sets the event when the gateway has ended the connection."""

    def wait(_: Received, connection: socket.socket) -> bool:
        with suppress(OSError):
            connection.recv(1)
        has_ended.set()
        return False

    return wait


class ScriptedUpstream:
    """Listens on a free port of 127.0.0.1. `script` responds to all requests, unless `at` has a script for the path."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self.closed_connections: list[int] = []
        self.connections = 0
        self.reset()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Resets requests and scripts between tests."""
        with self._changed:
            self.requests: list[Received] = []
            self.script: Script = answering(OK)
            self.at: dict[str, Script] = {}
            # If false, only the head is read, and the body is left to the script.
            self.reads_bodies = True

    def answers(self, data: bytes, *, keep: bool = True) -> None:
        self.script = answering(data, keep=keep)

    @property
    def only(self) -> Received:
        assert len(self.requests) == 1, [one.head for one in self.requests]
        return self.requests[0]

    def wait_until(self, condition: Callable[[], bool], seconds: float = 10) -> bool:
        """Waits until the condition is true. The condition is checked after each request."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # Without this option, several small writes would wait for delayed acknowledgements.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as stream:
                while self._serve_one(connection, stream, number):
                    pass
        except (OSError, ValueError):
            pass
        finally:
            with self._changed:
                self.closed_connections.append(number)
                self._changed.notify_all()

    def _serve_one(self, connection: socket.socket, stream: BufferedReader, number: int) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = stream.readline()
            if not line:
                return False
            head += line
        received = Received(head, number, stream)
        with self._changed:
            self.requests.append(received)
            self._changed.notify_all()
        if self.reads_bodies:
            read_body(received)
        with self._changed:
            self._changed.notify_all()
        path = received.target.partition("?")[0]
        return self.at.get(path, self.script)(received, connection)


def read_body(received: Received) -> None:
    """Reads the body as its framing says. Returns what has arrived if the connection ends early."""
    read, readline = received.stream.read, received.stream.readline
    if received.values("transfer-encoding"):
        while True:
            line = readline()
            if not line:
                return
            size = int(line, 16)
            received.body += read(size)
            if not readline():
                return
            if size == 0:
                break
    else:
        length = int((received.values("content-length") or ["0"])[0])
        received.body = read(length)
        if len(received.body) < length:
            return
    received.is_whole = True
