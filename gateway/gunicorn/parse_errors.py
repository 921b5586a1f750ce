"""Responses to requests that can't be parsed, and to errors in the server itself.

The application makes these responses, so that they have what every response has: a request id, CORS headers, a line in
the access log, a count in the metrics.
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
from gateway.system.fair_scheduling import yield_now
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION, is_exhaustion

PROBLEMS: dict[type[ParseException], tuple[type[errors.BadRequest], str]] = {
    LimitRequestLine: (errors.TargetTooLong, "the target must be shorter"),
    LimitRequestHeaders: (errors.HeadTooLarge, "there must be fewer or shorter header fields"),
    ExpectationFailed: (errors.UnknownExpectation, "only 100-continue is supported"),
    UnsupportedTransferCoding: (errors.UnsupportedCoding, "only chunked is supported"),
}
UNKNOWN_VERSION = (errors.UnsupportedVersion, "use HTTP/1.1")
NO_HOST = (errors.BadRequest, "there must be one Host header, with a host name or address and optionally a port")
MALFORMED = (errors.BadRequest, "the message is malformed or ambiguous")
# The only header fields of a refused request that are used. Both affect only the response; neither says who the client
# is.
USED_FIELDS = re.compile(r"\r\n(Origin|X-Request-Id)[ \t]*:([^\r\n]*)(?=\r\n)", re.IGNORECASE)


class ProblemResponses:
    """Mixin of a worker: responds to refused requests with problem documents (RFC 9457). Log lines never quote a
    refused request, as it may contain a token, or an attack on the log."""

    cfg: Config
    log: Any
    # The worker's method: passes the request to the application and sends its response.
    handle_request: Any

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        if not isinstance(exc, Exception):
            # The worker exits, so no response is sent.
            return
        peer = addr[0] if addr else "unknown"
        if isinstance(exc, ParseException) and not isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName):
            self.refuse(client, addr, problem_of(exc), exc.request if isinstance(exc, HeadRefused) else req)
        elif isinstance(exc, OSError):
            # The connection or its TLS handshake failed, so no HTTP response can be sent.
            self.log.warning("a connection of %s failed: %s", peer, type(exc).__name__)
        elif is_exhaustion(exc):
            RESOURCE_EXHAUSTION.report(exc)
        else:
            self.log.error("a request of %s failed", peer, exc_info=exc)
            self.refuse(client, addr, errors.GatewayError("see the gateway's log for this request id"), req)

    def refuse(self, client: Any, addr: Any, problem: errors.GatewayError, parsed: Request | None) -> None:
        """Responds with a problem document. `parsed` has the parts of the request that could be parsed. The caller then
        closes the connection."""
        # Other greenlets go first, so that a flood of bad requests does not delay good ones.
        yield_now()
        try:
            # StopIteration tells the caller to close the connection, which it does in any case.
            with suppress(StopIteration, OSError):
                self.handle_request(
                    client.getsockname(), RefusedRequest(self.cfg, client, addr, problem, parsed), client, addr
                )
        except Exception:
            self.log.exception("the response to a refused request failed")


class RefusedRequest(Request):
    """A request that stands for a refused one, with the parts that could be parsed."""

    def __init__(
        self, cfg: Config, sock: Any, peer_addr: Any, refusal: errors.GatewayError, parsed: Request | None
    ) -> None:
        self.cfg = cfg
        self.refusal = refusal
        self.unreader = Unreader(sock)
        self.peer_addr = self.remote_addr = peer_addr
        self.scheme = "https" if cfg.is_ssl else "http"
        self.proxy_protocol_info = None
        self._expected_100_continue = False
        self.must_close = True
        # The length of a refused request's body is not known (None). The connection then lingers after the response, so
        # that the client can read it. If no request was parsed, there is no body.
        self.body_length = None if parsed is not None else 0
        self.body = Body(LengthReader(self.unreader, 0))
        self.version = (1, 1)
        self.method = self.uri = self.path = self.query = ""
        self.headers = []
        if parsed is not None:
            self._copy(parsed)

    def _copy(self, parsed: Request) -> None:
        self.headers = list(used_fields(parsed.received))
        # The parser sets the version last. If it is missing, the other parts of the request line are not reliable.
        if parsed.version is not None:
            self.version = (1, 0) if parsed.version == (1, 0) else (1, 1)
            self.method, self.uri, self.path, self.query = parsed.method, parsed.uri, parsed.path, parsed.query


def used_fields(received: bytes) -> Iterator[tuple[str, str]]:
    """The header fields of a refused request that its response needs, each only if it occurs once."""
    head, end, _ = received.decode("latin-1").removeprefix("\r\n").partition("\r\n\r\n")
    found = [(name.upper(), value.strip(" \t")) for name, value in USED_FIELDS.findall(head + end[:2])]
    names = [name for name, _ in found]
    return (field for field in found if names.count(field[0]) == 1)


def problem_of(error: ParseException) -> errors.GatewayError:
    """The problem to report for a request that the parser refuses."""
    reason = error.reason if isinstance(error, HeadRefused) else error
    kind: type[errors.BadRequest]
    if isinstance(reason, InvalidHTTPVersion) and isinstance(reason.version, tuple):
        kind, detail = UNKNOWN_VERSION
    elif isinstance(reason, InvalidHeader) and reason.hdr == "HOST":
        kind, detail = NO_HOST
    else:
        kind, detail = next((found for parsed, found in PROBLEMS.items() if isinstance(reason, parsed)), MALFORMED)
    problem = kind(detail)
    # Only the type: the parser's text would quote the request.
    problem.__cause__ = RequestRefused(type(reason).__name__)
    return problem


class RequestRefused(Exception):
    """The cause of a problem, for the log: only the name of the parser's exception."""
