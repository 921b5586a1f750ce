"""What is answered where there is no request to be served: messages that can't be read, and failures in the server.

The application answers them, so that they get all that any answer gets: a request id, CORS fields, a line in the access
log, a place in the metrics.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from gunicorn.config import Config
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.errors import (
    ExpectationFailed,
    InvalidHeader,
    InvalidHTTPVersion,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)

from gateway import errors
from gateway.gunicorn.request_heads import HeadRefused, Request, Unreader
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION, is_exhaustion
from gateway.system.time_slice import yield_now

PROBLEMS: dict[type[ParseException], tuple[type[errors.BadRequest], str]] = {
    LimitRequestLine: (errors.TargetTooLong, "the target must be shorter"),
    LimitRequestHeaders: (errors.HeadTooLarge, "there must be fewer fields, or shorter ones"),
    ExpectationFailed: (errors.UnknownExpectation, "only 100-continue is understood"),
    UnsupportedTransferCoding: (errors.UnsupportedCoding, "chunked alone is understood"),
}
UNKNOWN_VERSION = (errors.UnsupportedVersion, "use HTTP/1.1")
NO_HOST = (errors.BadRequest, "there must be one Host field, with a host's name or address and perhaps a port")
MALFORMED = (errors.BadRequest, "the message is malformed or ambiguous")
# The fields of a refused message that are heeded: they say how to answer, and nothing about who is asking.
HEEDED = re.compile(r"\r\n(Origin|X-Request-Id)[ \t]*:([^\r\n]*)(?=\r\n)", re.IGNORECASE)


class ProblemResponses:
    """Answers refused messages with problem documents (RFC 9457), and logs them without quoting them: what can't be
    read may well be a token, or an attempt at the log."""

    cfg: Config
    log: Any

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        """Has the application answer; the worker that this class is a part of does it."""
        raise NotImplementedError

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        if not isinstance(exc, Exception):
            # The worker ends.
            return
        peer = addr[0] if addr else "unknown"
        if isinstance(exc, ParseException) and not isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName):
            self.refuse(client, addr, problem_of(exc), exc.request if isinstance(exc, HeadRefused) else req)
        elif isinstance(exc, OSError):
            # The TLS handshake failed, or the connection did; there is nobody to answer in HTTP.
            self.log.warning("a connection of %s failed: %s", peer, type(exc).__name__)
        elif is_exhaustion(exc):
            RESOURCE_EXHAUSTION.tell(exc)
        else:
            self.log.error("a request of %s failed", peer, exc_info=exc)
            self.refuse(client, addr, errors.GatewayError("see the gateway's log for this request id"), req)

    def refuse(self, client: Any, addr: Any, problem: errors.GatewayError, read: Request | None) -> None:
        """Answers what could be `read` of a message with a problem. The connection is to end then."""
        # A flood of them takes its turns behind whoever is to be served.
        yield_now()
        try:
            # StopIteration: the connection is to end, which is known.
            with suppress(StopIteration, OSError):
                self.handle_request(
                    client.getsockname(), RefusedRequest(self.cfg, client, addr, problem, read), client, addr
                )
        except Exception:
            self.log.exception("a refusal can't be answered")


class RefusedRequest(Request):
    """What is known of a refused message, as a request."""

    def __init__(
        self, cfg: Config, sock: Any, peer_addr: Any, refusal: errors.GatewayError, read: Request | None
    ) -> None:
        self.cfg = cfg
        self.refusal = refusal
        self.unreader = Unreader(sock)
        self.peer_addr = self.remote_addr = peer_addr
        self.scheme = "https" if cfg.is_ssl else "http"
        self.proxy_protocol_info = None
        self._expected_100_continue = False
        self.must_close = True
        # Not known: what comes is waited for a moment, so that the client reads the answer. Without a message, there is
        # nothing to come.
        self.body_length = None if read is not None else 0
        self.body = Body(LengthReader(self.unreader, 0))
        self.version = (1, 1)
        self.method = self.uri = self.path = self.query = ""
        self.headers = []
        if read is not None:
            self._take(read)

    def _take(self, read: Request) -> None:
        self.headers = list(heeded_fields(read.received))
        # Set last of the request line. Without it, nobody knows what is in which part.
        if read.version is not None:
            self.version = (1, 0) if read.version == (1, 0) else (1, 1)
            self.method, self.uri, self.path, self.query = read.method, read.uri, read.path, read.query


def heeded_fields(received: bytes) -> Iterator[tuple[str, str]]:
    """The fields by which a message that can't be read can still be answered. None that stands in it twice."""
    head, end, _ = received.decode("latin-1").removeprefix("\r\n").partition("\r\n\r\n")
    found = [(name.upper(), value.strip(" \t")) for name, value in HEEDED.findall(head + end[:2])]
    names = [name for name, _ in found]
    return (field for field in found if names.count(field[0]) == 1)


def problem_of(error: ParseException) -> errors.GatewayError:
    """What a message that the parser refuses is answered with."""
    reason = error.reason if isinstance(error, HeadRefused) else error
    kind: type[errors.BadRequest]
    if isinstance(reason, InvalidHTTPVersion) and isinstance(reason.version, tuple):
        kind, detail = UNKNOWN_VERSION
    elif isinstance(reason, InvalidHeader) and reason.hdr == "HOST":
        kind, detail = NO_HOST
    else:
        kind, detail = next((found for parsed, found in PROBLEMS.items() if isinstance(reason, parsed)), MALFORMED)
    problem = kind(detail)
    # Its text would quote the message.
    problem.__cause__ = UnreadableMessage(type(reason).__name__)
    return problem


class UnreadableMessage(Exception):
    """The parser's word for what is wrong with a message."""
