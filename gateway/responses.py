"""Responses that are sent as they were built: Flask and Werkzeug add, change and remove no header."""

from __future__ import annotations

import errno
import json
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from flask import Response
from werkzeug.datastructures import Headers

from gateway.errors import StreamAborted

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class GatewayResponse(Response):
    """A response whose header is a plain list, and whose body is closed in every case.

    Flask's own class adds a Content-Type where there is none, removes headers from a 304, and does not close the body
    of a response to HEAD. `when_closed` is called once, after the last byte or the failure to send it."""

    default_mimetype = None
    autocorrect_location_header = False
    automatically_set_content_length = False
    when_closed: Callable[[ClosingBody], None] | None = None

    @classmethod
    def of(cls, body: Iterable[bytes], code: int, reason: str, fields: Sequence[tuple[str, str]]) -> GatewayResponse:
        """Makes a response of these parts. Bypasses Werkzeug's constructor, which interprets its arguments."""
        made = cls.__new__(cls)
        made.headers = Headers()
        made.headers._list.extend(fields)
        made._status, made._status_code = f"{code} {reason}", code
        made.response = body
        made.direct_passthrough = False
        made._on_close = []
        return made

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        is_framed = environ["SERVER_PROTOCOL"] != "HTTP/1.0" or "Content-Length" in self.headers
        body = ClosingBody(
            cast(Iterable[bytes], self.response),
            self.when_closed,
            is_sent=environ["REQUEST_METHOD"] != "HEAD",
            unframed_on=None if is_framed else environ.get("gunicorn.socket"),
        )
        try:
            start_response(self.status, self.headers.to_wsgi_list())
        except BaseException:
            # The server closes the body only if this method returns it.
            body.close()
            raise
        return body


def put_fields(headers: Headers, pairs: Sequence[tuple[str, str]], instead_of: frozenset[str] = frozenset()) -> None:
    """Adds header fields. `instead_of` names fields to remove first, in lower case.

    Werkzeug would validate each field here. All fields are validated where they are read or built, and once more when
    the response is written."""
    if instead_of:
        headers._list = [pair for pair in headers._list if pair[0].lower() not in instead_of]
    headers._list.extend(pairs)


def json_response(document: object, status: int = 200, cache_control: str = "no-store") -> GatewayResponse:
    return content_response(json.dumps(document).encode(), "application/json", status, cache_control)


def content_response(
    content: bytes, content_type: str, status: int = 200, cache_control: str = "no-store"
) -> GatewayResponse:
    """A response of the gateway itself."""
    fields = [("Content-Type", content_type), ("Content-Length", str(len(content))), ("Cache-Control", cache_control)]
    return GatewayResponse.of([content], status, HTTPStatus(status).phrase, fields)


def redirect_response(location: str) -> GatewayResponse:
    """A permanent redirect that keeps the method."""
    return GatewayResponse.of([], 308, "Permanent Redirect", [("Location", location), ("Content-Length", "0")])


class ClosingBody:
    """The pieces of a body, as an iterator. Not a generator: `close()` of a generator that was never started runs none
    of its code.

    `failure` is the reason why the body is incomplete. `unframed_on` is the client's socket if only the end of the
    connection marks the end of the body (HTTP/1.0 without Content-Length)."""

    def __init__(
        self,
        pieces: Iterable[bytes],
        when_closed: Callable[[ClosingBody], None] | None,
        *,
        is_sent: bool,
        unframed_on: socket.socket | None,
    ) -> None:
        self._pieces = pieces
        self._iterator: Iterator[bytes] = iter(pieces if is_sent else ())
        self._when_closed = when_closed
        self._unframed_on = unframed_on
        self._has_begun = False
        self.sent_bytes = 0
        self.is_complete = False
        self.failure: StreamAborted | None = None

    def __iter__(self) -> ClosingBody:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._iterator)
        except StopIteration:
            self.is_complete = True
            raise
        except StreamAborted as error:
            self.failure = error
            # The server then closes the connection without a response and without the last chunk of the body.
            raise ConnectionResetError(errno.ECONNRESET, "the response can't be completed") from error
        self._has_begun = True
        self.sent_bytes += len(piece)
        return piece

    def close(self) -> None:
        when_closed, self._when_closed = self._when_closed, None
        if self._has_begun and not self.is_complete and self._unframed_on is not None:
            # An orderly close would make the partial body look complete to the client. A reset shows that it is not.
            with suppress(OSError):
                self._unframed_on.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            if close := getattr(self._pieces, "close", None):
                close()
        finally:
            if when_closed is not None:
                when_closed(self)
