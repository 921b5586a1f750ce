"""Responses are framed for the client, and an application can't break the framing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from gunicorn.http.errors import InvalidResponseHeader
from gunicorn.http.unreader import IterUnreader
from hypothesis import given
from hypothesis import strategies as st

from gateway.gunicorn.request_heads import Request
from gateway.gunicorn.response_writer import Response
from tests.unit.gunicorn.test_request_heads import CONFIG, PEER

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FIELDS = [("Date", "now"), ("Content-Type", "text/plain")]


class Written:
    """A request, the response to it, and the bytes that the client has received."""

    def __init__(self, sent: bytes, near: socket.socket, far: socket.socket) -> None:
        near.settimeout(5)
        self.far = far
        self.request = Request(CONFIG, IterUnreader([sent]), PEER)
        self.response = Response(self.request, near, CONFIG)

    def bytes(self) -> bytes:
        """All bytes that the client has received."""
        self.far.setblocking(False)
        try:
            return self.far.recv(1 << 20)
        except BlockingIOError:
            return b""


@contextmanager
def responding(sent: bytes = GET) -> Iterator[Written]:
    near, far = socket.socketpair()
    with near, far:
        yield Written(sent, near, far)


def written(sent: bytes, status: str, fields: list[tuple[str, str]], pieces: list[bytes]) -> tuple[bytes, bool]:
    """Writes a response. Returns the bytes that are sent, and whether the connection is closed."""
    with responding(sent) as one:
        one.response.start_response(status, fields)
        for piece in pieces:
            one.response.write(piece)
        one.response.close()
        return one.bytes(), one.response.should_close()


def test_head_and_first_piece_are_sent_together_and_the_length_is_not_exceeded() -> None:
    with responding() as one:
        one.response.start_response("200 OK", [*FIELDS, ("Content-Length", "5")])
        assert one.bytes() == b""
        one.response.write(b"hel")
        head = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nDate: now\r\nContent-Type: text/plain\r\n"
        assert one.bytes() == head + b"Content-Length: 5\r\n\r\nhel"
        one.response.write(b"lo, and more than announced")
        assert one.bytes() == b"lo"
        one.response.close()
        assert (one.bytes(), one.response.should_close()) == (b"", False)


def test_a_body_shorter_than_its_content_length_closes_the_connection() -> None:
    assert written(GET, "200 OK", [("Content-Length", "5")], [b"hel"])[1]


def test_a_body_without_length_is_chunked_or_ends_with_an_http_1_0_connection() -> None:
    data, closes = written(GET, "200 OK", FIELDS, [b"hello", b"", b"!"])
    assert data.endswith(b"Transfer-Encoding: chunked\r\nDate: now\r\nContent-Type: text/plain\r\n\r\n"
                         b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")  # fmt: skip
    assert not closes
    data, closes = written(GET.replace(b"1.1", b"1.0"), "200 OK", FIELDS, [b"hello"])
    assert data == b"HTTP/1.0 200 OK\r\nConnection: close\r\nDate: now\r\nContent-Type: text/plain\r\n\r\nhello"
    assert closes


@pytest.mark.parametrize(
    ("sent", "status", "length_is_told"),
    [
        (GET.replace(b"GET", b"HEAD"), "200 OK", True),
        (GET, "304 Not Modified", True),
        (GET, "204 No Content", False),
    ],
)
def test_responses_that_cant_have_a_body_are_sent_without(sent: bytes, status: str, length_is_told: bool) -> None:
    data, closes = written(sent, status, [("Content-Length", "5")], [b"hello"])
    assert data.endswith(b"\r\n\r\n")
    assert (b"Content-Length: 5" in data) is length_is_told
    assert b"chunked" not in data
    assert not closes


def test_connection_specific_fields_of_the_application_are_dropped() -> None:
    fields = [(name, "close") for name in ("Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Transfer-Encoding")]
    data, _ = written(GET, "200 OK", [*fields, ("Content-Length", "0"), ("Server", "its own")], [])
    head, _, rest = data.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in head.split(b"\r\n")[1:]]
    assert names == [b"Date", b"Connection", b"Content-Length", b"Server"]
    assert rest == b""


@pytest.mark.parametrize(
    "field",
    [
        ("X-A", "a\r\nX-B: b"),
        ("X-A", "a\r\n\r\nHTTP/1.1 200 OK"),
        ("X-A", "a\nb"),
        ("X-A", "a\rb"),
        ("X-A", "a\x00"),
        ("X-A", "a\u0100"),
        ("X A", "a"),
        ("X-A\r\nX-B", "b"),
        ("", "a"),
        ("X:A", "a\x7f"),
    ],
)
def test_a_line_break_in_a_field_is_refused(field: tuple[str, str]) -> None:
    with responding() as one:
        with pytest.raises(InvalidResponseHeader) as error:
            one.response.start_response("200 OK", [("X-Good", "a"), field])
        # The error must not contain the invalid value, which may be a secret.
        assert field[1] not in str(error.value) or len(field[1]) == 1
        assert one.bytes() == b""
        assert not one.response.headers_sent


@pytest.mark.parametrize("status", ["200", "0200 OK", "200 OK\r\nX-A: b", "20 OK", "abc", "200 \u0100"])
def test_an_invalid_status_is_refused(status: str) -> None:
    with responding() as one, pytest.raises(InvalidResponseHeader):
        one.response.start_response(status, [])


text = st.text(st.characters(codec="latin-1"), max_size=6) | st.sampled_from(
    ["a", "Content-Length", "a\r\nb: c", "\r\n"]
)


@given(st.lists(st.tuples(text, text), max_size=4))
def test_a_header_has_as_many_lines_as_fields_or_is_refused(fields: list[tuple[str, str]]) -> None:
    fields = [field for field in fields if field[0].lower() != "content-length"]
    with responding() as one:
        try:
            one.response.start_response("200 OK", fields)
        except InvalidResponseHeader:
            return
        one.response.write(b"")
        lines = one.bytes().split(b"\r\n")
    expected: list[Any] = [f"{name}: {value}".encode("latin-1") for name, value in fields]
    # The writer itself adds at most: status line, Connection, Transfer-Encoding, and Date if the application sets none.
    assert [line for line in lines if line in expected] == expected or {name.lower() for name, _ in fields} & {
        *("connection", "keep-alive", "te", "trailer", "trailers", "upgrade", "transfer-encoding"),
        *("proxy-authenticate", "proxy-authorization"),
    }
    assert len(lines) <= 1 + 3 + len(fields) + 2
