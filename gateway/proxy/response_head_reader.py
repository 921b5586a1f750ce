"""Reads the head of the final response from a connection, and passes interim responses on to the client."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.errors import UpstreamProtocolError
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.connection_errors import ConnectionClosed
from gateway.proxy.http1 import MAX_HEAD_BYTES, ResponseHead, parse_response_head

# A service that processes a request for a long time may send an interim response every few seconds.
MAX_INTERIM_RESPONSES = 32
START_OF_RESPONSE, END_OF_HEAD = b"HTTP/1.", b"\r\n\r\n"


class ResponseHeadReader:
    """Reads the response to one request on `connection`. `send_interim`, if any, is called with the head of each
    interim response."""

    __slots__ = (
        "_connection",
        "_head_bytes_left",
        "_interim_left",
        "_is_in_step",
        "_method",
        "_send_interim",
        "has_read_head",
        "has_started",
    )

    def __init__(
        self, connection: UpstreamConnection, method: str, send_interim: Callable[[ResponseHead], None] | None
    ) -> None:
        self._connection = connection
        self._method = method
        self._send_interim = send_interim
        # These limits apply to all heads of one response together: a service could otherwise send interim responses
        # without end.
        self._head_bytes_left, self._interim_left = MAX_HEAD_BYTES, MAX_INTERIM_RESPONSES
        # False once an interim response has made the connection unusable for a later request: it has announced content,
        # for example, which an interim response can't have.
        self._is_in_step = True
        # Whether a byte of the response has arrived, and whether a head has been read.
        self.has_started = self.has_read_head = False

    def read(self, timeout_seconds: float) -> ResponseHead:
        """Reads the head of the final response; interim responses (1xx, RFC 9110 15.2) before it go to the client.

        Raises UpstreamProtocolError and the errors of `UpstreamConnection.receive`."""
        deadline = self._connection.now() + timeout_seconds
        while True:
            data = self._read_head(deadline)
            self._head_bytes_left -= len(data)
            head = parse_response_head(data, self._method)
            self.has_read_head = True
            self._is_in_step = self._is_in_step and head.reusable
            if head.status >= 200:
                return head if self._is_in_step else head._replace(reusable=False)
            sent_at = time.monotonic()
            self._pass_on(head)
            # The time that a slow client takes to receive the interim response does not count against the service.
            deadline += time.monotonic() - sent_at

    def _read_head(self, deadline: float) -> bytes:
        connection = self._connection
        if not connection.buffer:
            data = connection.receive(deadline)
            # The fast path: nearly all heads arrive in one piece.
            end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
            if data.startswith(START_OF_RESPONSE) and len(END_OF_HEAD) <= end <= self._head_bytes_left:
                self.has_started = True
                connection.buffer += data[end:]
                return data[:end]
            connection.buffer += data
        self._wait_for_start(deadline)
        return self._read_to_end_of_head(deadline)

    def _wait_for_start(self, deadline: float) -> None:
        """Waits until a head starts. On a connection that was idle, other bytes belong to an earlier response (RFC 9112
        9.2), so the connection counts as closed."""
        buffer = self._connection.buffer
        while not buffer.startswith(START_OF_RESPONSE):
            if buffer and not START_OF_RESPONSE.startswith(bytes(buffer[: len(START_OF_RESPONSE)])):
                if self._connection.was_idle and not self.has_started:
                    raise ConnectionClosed
                raise UpstreamProtocolError("the status line is malformed")
            self.has_started = bool(buffer)
            buffer += self._connection.receive(deadline)
        self.has_started = True

    def _read_to_end_of_head(self, deadline: float) -> bytes:
        buffer, searched = self._connection.buffer, 0
        while (found := buffer.find(END_OF_HEAD, searched, self._head_bytes_left)) < 0:
            if len(buffer) >= self._head_bytes_left:
                raise UpstreamProtocolError("the response's head is too large")
            searched = max(0, len(buffer) - len(END_OF_HEAD) + 1)
            buffer += self._connection.receive(deadline)
        data = bytes(buffer[: found + len(END_OF_HEAD)])
        del buffer[: len(data)]
        return data

    def _pass_on(self, head: ResponseHead) -> None:
        """Sends an interim response to the client. Raises UpstreamProtocolError, ClientDisconnected."""
        if head.status == 101:
            raise UpstreamProtocolError("the service switched protocols without being asked to")
        self._interim_left -= 1
        if self._interim_left < 0:
            raise UpstreamProtocolError("the service sent too many interim responses")
        if self._send_interim is not None:
            self._send_interim(head)
