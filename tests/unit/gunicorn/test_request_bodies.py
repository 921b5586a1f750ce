"""Views that an operator adds can read a request's body by lines, as WSGI promises (PEP 3333)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.gunicorn.request_bodies import ClientStream
from gateway.gunicorn.request_heads import Request, Unreader
from gateway.gunicorn.slow_clients import ClientTimeouts
from tests.unit.gunicorn.test_request_heads import CONFIG, PEER

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
WITH_LENGTH = HEAD + b"Content-Length: 11\r\n\r\nab\ncd\r\n\nef\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nab\nc\r\n7\r\nd\r\n\nef\n\r\n0\r\n\r\n"


@contextmanager
def body_of(sent: bytes) -> Iterator[ClientStream]:
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(5)
        far.sendall(sent)
        yield ClientStream(Request(CONFIG, Unreader(near), PEER), near, ClientTimeouts())


@pytest.mark.parametrize("sent", [WITH_LENGTH, CHUNKED], ids=["length", "chunked"])
def test_a_body_is_read_by_lines(sent: bytes) -> None:
    with body_of(sent) as body:
        assert list(body) == [b"ab\n", b"cd\r\n", b"\n", b"ef\n"]
        assert (body.readline(), body.is_read, body.received) == (b"", True, 11)
    with body_of(sent) as body:
        assert body.readlines() == [b"ab\n", b"cd\r\n", b"\n", b"ef\n"]
    with body_of(sent) as body:
        assert [body.readline(2), body.readline(0), body.readline(2), body.read(3)] == [b"ab", b"", b"\n", b"cd\r"]
