"""The chunked coding is decoded correctly, however its bytes are split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import InvalidHeader, ParseException
from gunicorn.http.unreader import IterUnreader
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.chunked import REQUEST_CHUNK_LINE, RESPONSE_CHUNK_LINE, ChunkDecoder, MalformedChunks

SIZES = st.sampled_from(["%x", "%X", "0%x", "000%x"])
EXTENSIONS = st.sampled_from(["", ";a", ";a=b", ' \t; a="b;c"', ";\xff"])
TRAILERS = st.lists(st.sampled_from([b"X-A: 1\r\n", b"Empty:\r\n"]), max_size=3)


def decoded(pieces: list[bytes], limit: int = 1 << 16) -> tuple[list[bytes], ChunkDecoder]:
    """Feeds the decoder with these pieces, one after the other. Returns the pieces of data that it returns."""
    decoder, found = ChunkDecoder(RESPONSE_CHUNK_LINE), []
    for piece in pieces:
        decoder.feed(piece)
        while data := decoder.take(limit):
            assert len(data) <= limit
            found.append(data)
    return found, decoder


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), SIZES, EXTENSIONS), max_size=12),
    TRAILERS,
    st.binary(max_size=20),
    st.lists(st.integers(0, 400), max_size=20),
    st.sampled_from([1, 3, 1 << 16]),
)
def test_any_chunks_in_any_pieces_decode_to_their_data(
    chunks: list[tuple[bytes, str, str]], trailers: list[bytes], after: bytes, cuts: list[int], limit: int
) -> None:
    body = b"".join(
        (size % len(data) + extension).encode("latin-1") + b"\r\n" + data + b"\r\n" for data, size, extension in chunks
    )
    whole = body + b"0\r\n" + b"".join(trailers) + b"\r\n" + after
    ends = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    found, decoder = decoded([whole[start:end] for start, end in pairwise(ends)], limit)
    assert b"".join(found) == b"".join(data for data, _, _ in chunks)
    assert (decoder.is_ended, decoder.rest) == (True, after)


@given(st.binary(max_size=60), st.integers(1, 60))
def test_the_result_for_any_bytes_does_not_depend_on_how_they_are_split(data: bytes, cut: int) -> None:
    outcomes: list[tuple[bytes, bool] | None] = []
    for pieces in ([data], [data[:cut], data[cut:]], [data[index : index + 1] for index in range(len(data))]):
        try:
            found, decoder = decoded(pieces)
        except MalformedChunks:
            outcomes.append(None)
        else:
            outcomes.append((b"".join(found), decoder.is_ended))
    assert len(set(outcomes)) == 1


def test_data_is_returned_before_its_chunk_is_complete() -> None:
    decoder = ChunkDecoder(REQUEST_CHUNK_LINE)
    decoder.feed(b"5\r\nhel")
    assert decoder.take(100) == b"hel"
    decoder.feed(b"lo")
    assert decoder.take(100) == b"lo"
    assert not decoder.is_ended


@pytest.mark.parametrize(
    "body",
    [
        *(b"\r\n", b"g\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b" 1\r\na\r\n", b"1_0\r\n", b"1\na\r\n", b"1 \ra\r\n"),
        *(b"1\r\nab\r\n", b"1\r\na\n0\r\n\r\n", b"1;\x00\r\na\r\n", b"1;a\rb\r\na\r\n", b"1234567890abcdef0\r\n"),
        *(
            b"0\r\nX Y: 1\r\n\r\n",
            b"0\r\n: 1\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
            b"0\r\nA: \x00\r\n\r\n",
            b"0\r\nno\r\n\r\n",
        ),
        *(b"1;" + b"a" * 5000 + b"\r\na\r\n", b"1;" + b"a" * 5000, b"0\r\nA: " + b"a" * 70_000),
        b"0\r\n" + b"A: aaaaaaaaaa\r\n" * 6000 + b"\r\n",
    ],
)
def test_malformed_chunks_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedChunks):
        decoded([body])


def test_many_small_chunks_pass_and_excessive_extensions_are_refused() -> None:
    small = b"1\r\na\r\n" * 100_000
    assert b"".join(decoded([small])[0]) == b"a" * 100_000
    with pytest.raises(MalformedChunks):
        decoded([(b"1;" + b"p" * 1000 + b"\r\na\r\n") * 20])
    # Extensions of the same size are allowed if there is more data beside them.
    decoded([(b"1000;" + b"p" * 1000 + b"\r\n" + b"a" * 0x1000 + b"\r\n") * 20])


def test_one_call_decodes_a_bounded_number_of_chunks() -> None:
    decoder = ChunkDecoder(REQUEST_CHUNK_LINE)
    decoder.feed(b"1\r\na\r\n" * 10_000)
    assert 0 < len(decoder.take(1 << 16)) <= 1000


PARTS = [*'0123aF;="\\ \t,\r\n\x00\xff_+x', "\r\n", "\r\na\r\n", ";a", ';a="b', ';a="b"', ";a=b"]
LINES = st.lists(st.sampled_from(PARTS), max_size=8).map(lambda parts: "".join(parts).encode("latin-1"))


class NoTrailers:
    def parse_headers(self, data: bytes, **_: bool) -> None:
        # The random lines contain no colon, so none of them is a valid trailer.
        raise InvalidHeader(data)


@given(LINES)
def test_requests_are_accepted_exactly_as_by_gunicorns_reader(line: bytes) -> None:
    body = line + b"\r\na\r\n0\r\n\r\n"
    reader = ChunkedReader(NoTrailers(), IterUnreader([body]))
    expected: bytes | None
    try:
        expected = reader.read(1000)
    except (ParseException, OSError):
        expected = None
    decoder = ChunkDecoder(REQUEST_CHUNK_LINE)
    decoder.feed(body)
    try:
        data: bytes | None = decoder.take(1000)
        while piece := decoder.take(1000):
            data = (data or b"") + piece
        if not decoder.is_ended:
            data = None
    except MalformedChunks:
        data = None
    assert data == expected


def test_services_may_pad_the_first_line_of_a_chunk() -> None:
    assert b"".join(decoded([b"1  \r\na\r\n1 ;\xff\r\nb\r\n0 \r\n\r\n"])[0]) == b"ab"
