"""Plain request heads get exactly the result that gunicorn's parser gives. All other heads are left to gunicorn's
parser."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import message
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.unreader import IterUnreader
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.gunicorn.parser_settings import PARSER_SETTINGS
from gateway.gunicorn.request_heads import HeadRefused, Request, RequestParser
from gateway.hosts import read_host

PEER = ("203.0.113.9", 4711)
PLAIN = b"GET /a?b=c HTTP/1.1\r\nHost: gateway\r\nAccept: */*\r\n\r\n"

NAMES = [
    *[b"Host", b"hOST", b"Content-Length", b"Content-Type", b"Connection", b"Transfer-Encoding", b"Expect", b"X-A"],
    *[
        b"X_A",
        b"",
        b"X A",
        b"X-\xe9",
        b"X\t",
        b" X-A",
        b"Script-Name",
        b"Upgrade",
        b"X-Forwarded-Proto",
        b"!#$%&'*+-.^`|~9",
    ],
]
VALUES = [
    *[b"", b"gateway", b"0", b"3", b"+3", b"3, 3", b"-1", b"\xb2", b"0x3", b"00", b"9" * 19, b"close", b"Close , x"],
    *[b"keep-alive", b"chunked", b"gzip, chunked", b"100-continue", b"https", b"a\tb", b"\t a \t", b"\xff", b"\x7f"],
    *[b"a\x00b", b"a\nb", b"a\rb", b"a:b", b"a" * 9000, b"websocket", b"a\x0bb"],
]
TARGETS = [
    *[b"/", b"/a/b?c=d?e", b"//a", b"/a//b", b"/a#b", b"/%2e%2E/", b"*", b"http://gateway/a?b", b"gateway:80", b"/a b"],
    *[b"/\xe9", b"", b"/a\x00", b"/" + b"a" * 8180, b"/" + b"a" * 8300, b'/"<>[]{}', b"/a;b", b"/?", b"?a", b"/a\\b"],
]
METHODS = [b"GET", b"get", b"M-SEARCH", b"CONNECT", b"OPTIONS", b"G ET", b"", b"\xe9", b"G_T", b"GET\t"]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1", b"HTTP/1.1 ", b""]
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\r\n"]

rarely_odd = st.sampled_from(ENDS)
one_field = st.tuples(
    st.sampled_from(NAMES) | st.binary(max_size=3),
    st.sampled_from([b": ", b":", b" : ", b""]),
    st.sampled_from(VALUES) | st.binary(max_size=5),
    rarely_odd,
).map(b"".join)
first_line = st.tuples(
    st.sampled_from(METHODS),
    st.just(b" "),
    st.sampled_from(TARGETS),
    st.just(b" "),
    st.sampled_from(VERSIONS),
    rarely_odd,
).map(b"".join)
messages = st.tuples(
    st.sampled_from([b"", b"", b"", b"\r\n", b"\n"]),
    first_line,
    st.sampled_from([b"Host: gateway\r\n", b"Host: gateway\r\n", b"Host: gateway\r\n", b""]),
    st.lists(one_field, max_size=6).map(b"".join),
    rarely_odd,
    st.sampled_from([b"", b"abc", b"GET / HTTP/1.1\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"]),
).map(b"".join)


@dataclass(frozen=True)
class Reading:
    """The result of a parser; `refusal` is the type of its exception."""

    refusal: str = ""
    closes: bool = field(default=False, compare=False)
    said: tuple[Any, ...] = ()
    body: bytes | str = b""
    rest: bytes = b""


def gunicorn_config() -> Config:
    config = Config()
    for name, value in PARSER_SETTINGS.items():
        config.set(name, value)
    return config


CONFIG = gunicorn_config()


def refusal_beyond_gunicorn(reading: Reading) -> str:
    """The type of exception with which the gateway refuses a request that gunicorn accepts; "" if it accepts it too."""
    uri, version, fields = reading.said[1], reading.said[5], reading.said[7]
    if "#" in uri:
        return "InvalidRequestLine"
    codings = [value.lower() for name, value in fields if name == "TRANSFER-ENCODING"]
    if codings not in ([], ["chunked"]):
        return "UnsupportedTransferCoding"
    hosts = [value for name, value in fields if name == "HOST"]
    if (not hosts and version >= (1, 1)) or any(not read_host(host) for host in hosts):
        return "InvalidHeader"
    authority = authority_of(uri)
    return "InvalidRequestLine" if authority is not None and not read_host(authority) else ""


def authority_of(uri: str) -> str | None:
    """The authority of a target in absolute form, if it has that form."""
    found = re.match("https?://([^/?]*)", uri, re.IGNORECASE)
    return found[1] if found else None


def as_the_gateway_reads(reading: Reading) -> Reading:
    """gunicorn's result with two changes that the gateway makes: the version is that of the response (RFC 9110 2.5),
    and the authority of an absolute target replaces the Host."""
    said = list(reading.said)
    said[5] = min(said[5], (1, 1))
    if (authority := authority_of(said[1])) is not None:
        said[2] = said[2] or "/"
        said[7] = [("HOST", authority), *(field for field in said[7] if field[0] != "HOST")]
    return replace(reading, said=tuple(said))


def reading(kind: type[Any], pieces: list[bytes]) -> Reading:
    unreader = IterUnreader(pieces)
    try:
        request = kind(CONFIG, unreader, PEER)
    except (NoMoreData, ParseException, StopIteration) as error:
        return Reading(type(error.reason if isinstance(error, HeadRefused) else error).__name__)
    try:
        body: bytes | str = request.body.read()
    except (NoMoreData, ParseException) as error:
        body = type(error).__name__
    said = (
        *(request.method, request.uri, request.path, request.query, request.fragment, request.version),
        *(request.scheme, request.headers, request._expected_100_continue),
    )
    rest = b"" if isinstance(body, str) else b"".join(iter(unreader.read, b""))
    return Reading("", request.should_close(), said, body, rest)


@settings(max_examples=500, deadline=None)
@given(messages, st.integers(1, 200))
@example(PLAIN, 1)
@example(b"CONNECT gateway:80 HTTP/1.1\r\nHost: gateway:80\r\n\r\n", 9)
@example(b"GET / HTTP/1.1\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\nabc", 9)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n", 200)
@example(b"GET http://other/a HTTP/1.2\r\nX-A: a\r\nHost: a\r\n\r\n", 20)
@example(b"\r\nGET /a HTTP/1.0\r\n\r\n", 1)
def test_every_head_is_parsed_as_by_gunicorn(sent: bytes, first: int) -> None:
    for pieces in ([sent], [piece for piece in (sent[:first], sent[first:]) if piece]):
        ours, theirs = reading(Request, pieces), reading(message.Request, pieces)
        if theirs.refusal:
            # Only the refusal is compared, not its reason: of several errors the gateway may find another one first,
            # and it refuses bytes that are not HTTP early.
            assert ours.refusal
            continue
        if wanted := refusal_beyond_gunicorn(theirs):
            assert ours.refusal == wanted
            continue
        assert ours == as_the_gateway_reads(theirs)
        # The gateway closes each connection that gunicorn closes. It also closes others, because `close` may be any of
        # the options in Connection.
        assert ours.closes or not theirs.closes


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nPOST http://b/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /2",
        b"GET /1 HTTP/1.0\r\n\r\n",
        b"GET /1 HTTP/1.0\r\nA: b\r\n\r\n\r\nGET /2",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nX-A: a\nX-B: b\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nX-A: a\rX-B: b\r\n\r\n",
        b"GET /1 HTTP/1.1\nHost: a\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\n X-A: a\r\n\r\n",
        b"\r\n\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_the_result_does_not_depend_on_the_pieces(sent: bytes) -> None:
    whole = reading(Request, [sent])
    for cut in range(1, len(sent)):
        for pieces in ([sent[:cut], sent[cut:]], [sent[:cut], sent[cut : cut + 1], sent[cut + 1 :]]):
            assert reading(Request, [piece for piece in pieces if piece]) == whole, cut
    assert reading(Request, [sent[index : index + 1] for index in range(len(sent))]) == whole


@pytest.mark.parametrize(
    "sent",
    [
        *[
            b"GET /" + b"a" * 8191,
            b"GET / HTTP/1.1\r\nHost: a",
            b"GET /\r\n",
            b"GET / HTTP/2.0\r\n",
            b"G[T / HTTP/1.1\r\n",
        ],
        *[b"\x16", b"G\n", b"\r\r"],
    ],
)
def test_an_invalid_head_is_refused_before_its_end(sent: bytes) -> None:
    """A client may send the rest of the head very slowly, so the gateway must not wait for it."""
    pieces = iter([sent, *[b"x" * 100] * 1000])
    refused = reading(Request, pieces)  # type: ignore[arg-type]
    assert refused.refusal not in ("", "NoMoreData")
    # How many pieces are left unread: all of them if the first bytes are invalid. A head that can still become valid is
    # read until it is too long.
    assert len(list(pieces)) == (1000 if b"Host" not in sent else 1000 - (65536 + 2 - len(sent)) // 100 - 1)


def test_a_head_may_have_a_hundred_fields() -> None:
    lines = [b"Host: a\r\n", *(b"X-%d: a\r\n" % number for number in range(100))]
    for kind in (message.Request, Request):
        assert reading(kind, [b"GET / HTTP/1.1\r\n" + b"".join(lines[:100]) + b"\r\n"]).refusal == ""
        assert reading(kind, [b"GET / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"]).refusal == "LimitRequestHeaders"


@pytest.mark.parametrize(
    "connection", ["close", "Close", "keep-alive, close", "close ,x", "x,\tclose", "closed", "keep-alive", ""]
)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_close_may_be_any_of_the_connection_options(connection: str, in_pieces: bool) -> None:
    sent = f"GET / HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n".encode()
    request = Request(CONFIG, IterUnreader([sent[:20], sent[20:]] if in_pieces else [sent]), PEER)
    assert request.should_close() == ("close" in [one.strip().lower() for one in connection.split(",")])


def test_pipelined_requests_are_parsed_one_by_one_and_bodies_stay_unread() -> None:
    first = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    sent = first + b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.0\r\n\r\nGET /4"
    parser = RequestParser(CONFIG, iter([sent]), PEER)
    assert [next(parser).uri for _ in range(3)] == ["/1", "/2", "/3"]
    with pytest.raises(StopIteration):
        next(parser)


def test_heads_of_common_clients_are_plain() -> None:
    for sent in (PLAIN, PLAIN.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\nCookie: a=b; c=d\r\n\r\nabc")):
        request = Request.__new__(Request)
        assert request._parse_plain(sent, IterUnreader([]))
