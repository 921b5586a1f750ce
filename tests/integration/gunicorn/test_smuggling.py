"""Request smuggling: requests that two parsers could read differently are refused."""

from __future__ import annotations

import pytest

from tests.support.client import Connection
from tests.support.gateway import GatewayProcess
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

AUTH = ": ".join(bearer()).encode()
SECOND = b"GET /api/devices/smuggled HTTP/1.1\r\nHost: a\r\n" + AUTH + b"\r\n\r\n"


def post(*fields: bytes, body: bytes = b"", line: bytes = b"POST /api/devices HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: a", AUTH, *fields, b"", b""]) + body


CL_TE_BODY = b"0\r\n\r\n" + SECOND

HOSTILE = {
    "CL and TE": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CL_TE_BODY),
    "TE and CL": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CL_TE_BODY),
    "TE xchunked": post(b"Transfer-Encoding: xchunked", body=CL_TE_BODY),
    "TE chunked twice": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CL_TE_BODY),
    "TE chunked, identity": post(b"Transfer-Encoding: chunked, identity", body=CL_TE_BODY),
    "TE chunked, chunked": post(b"Transfer-Encoding: chunked, chunked", body=CL_TE_BODY),
    "TE gzip, chunked": post(b"Transfer-Encoding: gzip, chunked", body=CL_TE_BODY),
    "TE identity, chunked": post(b"Transfer-Encoding: identity, chunked", body=CL_TE_BODY),
    "TE list": post(b"Transfer-Encoding: ,chunked", body=CL_TE_BODY),
    "TE empty": post(b"Transfer-Encoding:", body=CL_TE_BODY),
    "TE in two fields": post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=CL_TE_BODY),
    "TE identity": post(b"Transfer-Encoding: identity", body=CL_TE_BODY),
    "TE gzip": post(b"Transfer-Encoding: gzip", body=CL_TE_BODY),
    "TE quoted": post(b'Transfer-Encoding: "chunked"', body=CL_TE_BODY),
    "TE with control byte": post(b"Transfer-Encoding: \x0bchunked", body=CL_TE_BODY),
    "TE with semicolon": post(b"Transfer-Encoding: chunked;q=1", body=CL_TE_BODY),
    "TE folded": post(b"Transfer-Encoding:\r\n chunked", body=CL_TE_BODY),
    "TE in HTTP/1.0": post(b"Transfer-Encoding: chunked", line=b"POST /api/devices HTTP/1.0", body=CL_TE_BODY),
    "CL twice, the same": post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello" + SECOND),
    "CL twice, different": post(b"Content-Length: 5", b"Content-Length: 0", body=b"hello" + SECOND),
    "CL list": post(b"Content-Length: 5, 5", body=b"hello" + SECOND),
    "CL signed": post(b"Content-Length: +5", body=b"hello" + SECOND),
    "CL negative": post(b"Content-Length: -5", body=b"hello" + SECOND),
    "CL hexadecimal": post(b"Content-Length: 0x5", body=b"hello" + SECOND),
    "CL with blank inside": post(b"Content-Length: 5 5", body=b"hello" + SECOND),
    "CL empty": post(b"Content-Length:", body=b"hello" + SECOND),
    "CL in other digits": post("Content-Length: \u00b2".encode("latin-1"), body=b"hello" + SECOND),
    "CL enormous": post(b"Content-Length: " + b"9" * 5000, body=b"hello"),
    "bare LF after the request line": b"GET /api/devices HTTP/1.1\nHost: a\r\n" + AUTH + b"\r\n\r\n",
    "bare LF after a field": b"GET /api/devices HTTP/1.1\r\nHost: a\n" + AUTH + b"\r\n\r\n",
    "bare LF at the end": b"GET /api/devices HTTP/1.1\r\nHost: a\r\n" + AUTH + b"\n\n",
    "bare CR in a field": post(b"X-A: a\rX-User-Id: 1"),
    "obs-fold": post(b"X-A: a\r\n b"),
    "space before colon": post(b"Content-Length : 5", body=b"hello" + SECOND),
    "tab before colon": post(b"Transfer-Encoding\t: chunked", body=CL_TE_BODY),
    "field without name": post(b": x"),
    "field without colon": post(b"X-A"),
    "name with a bracket": post(b"X[A]: 1"),
    "NUL in a field": post(b"X-A: a\x00b"),
    "control byte in a field": post(b"X-A: a\x01b"),
    "NUL in the path": post(line=b"GET /api/dev\x00ices HTTP/1.1"),
    "raw byte in the path": post(line=b"GET /api/devices/\xff HTTP/1.1"),
    "blank in the path": post(line=b"GET /api/devices/a b HTTP/1.1"),
    "tab in the request line": post(line=b"GET\t/api/devices\tHTTP/1.1"),
    "lower-case protocol": post(line=b"GET /api/devices http/1.1"),
    "HTTP/2.0": post(line=b"GET /api/devices HTTP/2.0"),
    "HTTP/1.10": post(line=b"GET /api/devices HTTP/1.10"),
    "HTTP/0.9": b"GET /api/devices\r\n\r\n",
    "method with a blank": post(line=b"GE T /api/devices HTTP/1.1"),
    "method with a colon": post(line=b"GE:T /api/devices HTTP/1.1"),
    "two Host fields": post(b"Host: b"),
    "no Host field": b"GET /api/devices HTTP/1.1\r\n" + AUTH + b"\r\n\r\n",
    "huge request line": post(line=b"GET /api/devices?" + b"a" * 20_000 + b" HTTP/1.1"),
    "huge field": post(b"X-A: " + b"a" * 40_000),
    "many fields": post(*[b"X-%d: 1" % number for number in range(200)]),
    "endless head": b"GET /api/devices HTTP/1.1\r\n" + b"X-A: a\r\n" * 400_000,
    "binary": bytes(range(256)) * 20 + b"\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n",
}

STATUSES = {
    **{name: b"501" for name in HOSTILE if name.startswith("TE ")},
    **dict.fromkeys(["TE and CL", "TE with control byte", "TE folded", "TE in HTTP/1.0"], b"400"),
    "HTTP/2.0": b"505",
}

CHUNKED = (b"Transfer-Encoding: chunked",)
HOSTILE_CHUNKS = {
    "size not hexadecimal": b"xyz\r\nhello\r\n",
    "size signed": b"+5\r\nhello\r\n",
    "size negative": b"-5\r\nhello\r\n",
    "size with 0x": b"0x5\r\nhello\r\n",
    "size with a blank before": b" 5\r\nhello\r\n",
    "size with a blank behind": b"5 \r\nhello\r\n0\r\n\r\n",
    "size empty": b"\r\nhello\r\n",
    "size with underscore": b"1_0\r\nhellohellohelloh\r\n",
    "chunk too short": b"3\r\nhello\r\n",
    "chunk too long": b"a\r\nhello\r\n0\r\n\r\n",
    "bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "bare CR in an extension": b"5;a\rb\r\nhello\r\n",
    "endless extension": b"5;" + b"a" * 100_000,
    "trailer that frames": b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "trailer that authorizes": b"5\r\nhello\r\n0\r\nAuthorization: Bearer x\r\n\r\n",
    "trailer without colon": b"5\r\nhello\r\n0\r\nX\r\n\r\n",
}


def statuses(answer: bytes) -> list[bytes]:
    """The status of each response in the received bytes."""
    return [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] + [part[:3] for part in answer.split(b"HTTP/1.0 ")[1:]]


@pytest.mark.parametrize("name", HOSTILE)
def test_an_ambiguous_request_is_not_forwarded(gateway: GatewayProcess, upstream: ScriptedUpstream, name: str) -> None:
    with Connection(gateway.port) as connection:
        connection.send(HOSTILE[name])
        # Reads until the gateway closes: it must not parse the rest of the bytes as another request.
        answer = connection.rest()
    [status] = statuses(answer)
    assert status == STATUSES.get(name, status), answer
    assert status.startswith(b"4") or name in STATUSES, answer
    assert b"application/problem+json" in answer
    assert b"<html" not in answer
    assert upstream.requests == []


@pytest.mark.parametrize("chunks", HOSTILE_CHUNKS.values(), ids=HOSTILE_CHUNKS.keys())
def test_a_body_with_malformed_chunks_is_not_completed_upstream(
    gateway: GatewayProcess, upstream: ScriptedUpstream, chunks: bytes
) -> None:
    # The request's head is forwarded before the body is read, and may reach the service after the client has its
    # response. Its own path distinguishes it from the heads of other tests.
    path = f"/api/devices/{len(chunks)}-{chunks[:4].hex()}"
    with Connection(gateway.port) as connection:
        connection.send(post(*CHUNKED, line=f"POST {path} HTTP/1.1".encode(), body=chunks + SECOND))
        answer = connection.rest()
    assert len(statuses(answer)) == 1, answer
    assert statuses(answer)[0].startswith(b"4"), answer
    assert upstream.wait_until(lambda: any(request.target == path for request in upstream.requests))
    [arrived] = [request for request in upstream.requests if request.target == path]
    assert upstream.wait_until(lambda: arrived.connection in upstream.closed_connections)
    assert not arrived.is_whole
    assert not any("smuggled" in request.target for request in upstream.requests)


def test_a_field_whose_name_has_an_underscore_is_dropped(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    reply = gateway.get(
        "/api/devices", bearer(), ("Content_Length", "5"), ("Transfer_Encoding", "chunked"), ("X_A", "1")
    )
    assert reply.status == 200
    assert not any("_" in name for name, _ in upstream.only.fields)
    assert upstream.only.values("content-length") == upstream.only.values("transfer-encoding") == []
