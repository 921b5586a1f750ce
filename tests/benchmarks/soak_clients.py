"""The clients of a soak: each call sends a random request, good or bad.

Its result is the kind of request, followed by the outcome as `tests.support.load` names it.
"""

from __future__ import annotations

import socket
from http.client import HTTPException
from random import Random

from tests.support.client import Connection, request_bytes
from tests.support.load import CUT, Client
from tests.support.tokens import bearer, signed

KIB, MIB = 1 << 10, 1 << 20
SIZES = (0, 100, 5 * KIB, 60 * KIB, 70 * KIB, 300 * KIB, 2 * MIB)
BAD_TOKENS = ("", "x", "a.b.c", "x" * 5000, signed(exp=1), signed(key="another-secret-0123456789abcdef0123456789"))


class SoakClient:
    """A client that chooses the kind of request, the size of its body and the caller at random. `faults` are the
    prefixes of failing services."""

    def __init__(self, port: int, faults: list[str], number: int) -> None:
        self._port = port
        self._faults = faults
        self._number = number
        self._random = Random(number)  # noqa: S311 - the same load each time
        self._asked = 0
        # A client that keeps its connection as long as possible.
        self._kept = Client(port, "/api/good", self._token())
        self._kinds = [self.keep, self.download, self.upload, self.leave_upload, self.leave_download]
        self._kinds += [self.bad_token, self.unknown, self.fail, self.fail, self.fail, self.exceed]

    def __call__(self) -> str:
        self._asked += 1
        return self._random.choice(self._kinds)()

    def close(self) -> None:
        self._kept.close()

    def _token(self) -> tuple[str, str]:
        """The Authorization header of a new caller."""
        return bearer(f"caller-{self._number}-{self._asked}@example.com")

    def _ask(self, target: str, method: str = "GET", body: bytes | None = None) -> str:
        client = Client(self._port, target, self._token(), method, body)
        try:
            return client()
        finally:
            client.close()

    def keep(self) -> str:
        outcome = self._kept()
        # This may be NO_ANSWER: a worker that is replaced closes its idle connections.
        return f"kept: {outcome}"

    def download(self) -> str:
        return "download: " + self._ask(f"/api/good/x?bytes={self._random.choice(SIZES)}")

    def upload(self) -> str:
        method = self._random.choice(("POST", "PUT"))
        return "upload: " + self._ask("/api/good/x", method, bytes(self._random.choice(SIZES)))

    def fail(self) -> str:
        prefix = self._random.choice(self._faults)
        if self._random.random() < 0.5:
            return f"{prefix}: " + self._ask(prefix)
        return f"{prefix}: " + self._ask(prefix, "POST", bytes(self._random.choice(SIZES)))

    def exceed(self) -> str:
        """Sends a request of the one caller whom all clients share, whose limit is small."""
        client = Client(self._port, "/api/limited", bearer("greedy@example.com"))
        try:
            return "limited: " + client()
        finally:
            client.close()

    def bad_token(self) -> str:
        token = self._random.choice(BAD_TOKENS)
        client = Client(self._port, "/api/good", ("Authorization", f"Bearer {token}"))
        try:
            return "bad token: " + client()
        finally:
            client.close()

    def unknown(self) -> str:
        return "unknown path: " + self._ask(f"/nowhere/{self._asked}/%2e%2e" if self._asked % 2 else "/nowhere")

    def leave_upload(self) -> str:
        """Sends half of a body, then closes the connection."""
        size = self._random.choice(SIZES[1:])
        data = request_bytes("POST", "/api/good/x", [self._token()], bytes(size))
        return self._leave(data[: -size // 2], 0)

    def leave_download(self) -> str:
        """Reads the beginning of a response, then closes the connection."""
        return self._leave(request_bytes("GET", f"/api/good/x?bytes={4 * MIB}", [self._token()]), 1000)

    def _leave(self, data: bytes, read_bytes: int) -> str:
        try:
            with Connection(self._port) as connection:
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
                connection.send(data)
                if read_bytes:
                    connection.socket.recv(read_bytes)
        except (OSError, HTTPException):
            return f"left: {CUT}"
        return "left: by itself"
