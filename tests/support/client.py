"""A client that sends the given bytes, and keeps repeated headers of the response apart."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any


@dataclass
class Reply:
    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        """The only value of a header; None if it is absent."""
        values = self.values(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One connection to the gateway."""

    def __init__(self, port: int, timeout: float = 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self, method: str = "GET") -> Reply:
        """Reads one response."""
        response = HTTPResponse(self.socket, method=method)
        response.begin()
        return Reply(response.status, response.reason, response.getheaders(), response.read())

    def rest(self) -> bytes:
        """Reads until the connection ends. Returns all bytes, also those received before a reset."""
        data = b""
        try:
            while piece := self.socket.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    """Receives until `mark` has arrived. Returns all bytes received."""
    data = b""
    while mark not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return data


def request_bytes(
    method: str,
    target: str,
    fields: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    host: str = "gateway.test",
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def exchange(port: int, data: bytes, method: str = "GET") -> Reply:
    """Sends raw bytes on a new connection and reads one response."""
    with Connection(port) as connection:
        connection.send(data)
        return connection.reply(method)
