"""Parsing and writing of message heads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamProtocolError
from gateway.http_fields import normal
from gateway.proxy.http1 import parse_response_head, request_head

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
NAMES = st.text(TOKEN_CHARACTERS, min_size=1, max_size=20).filter(
    lambda name: normal(name) not in ("content-length", "transfer-encoding", "connection")
)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40).filter(
    lambda value: not any("\x80" > character < "\x20" for character in value)
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=10), st.integers(200, 599), VALUES)
def test_headers_are_parsed_as_they_were_written(fields: list[tuple[str, str]], status: int, reason: str) -> None:
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}:{value}" for name, value in fields), "", ""]
    head = parse_response_head("\r\n".join(lines).encode("latin-1"), "GET")
    assert (head.status, head.reason) == (status, reason)
    assert head.headers == [(name, value.strip(" \t")) for name, value in fields]


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        head = parse_response_head(b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n", "GET")
    except UpstreamProtocolError:
        return
    for name, value in head.headers:
        assert set(name) <= set(TOKEN_CHARACTERS)
        assert not set(value) & set(map(chr, [*range(9), *range(10, 32), 127]))


def test_a_request_head_ends_with_an_empty_line() -> None:
    assert (
        request_head("GET", "/a?b", [("Host", "x"), ("X-A", "1")]) == b"GET /a?b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n\r\n"
    )
