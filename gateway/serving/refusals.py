"""What is answered where there is no request to be served: messages that can't be read, and failures in the server."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from gunicorn.http.errors import (
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.util import write_nonblock

from gateway.serving.answers import linger
from gateway.system.exhaustion import EXHAUSTION, is_exhaustion

TOLD = {
    400: ("bad_request", "The request can't be understood"),
    500: ("internal", "The gateway failed"),
    503: ("overloaded", "There are too many connections from this address"),
}
STATUSES: dict[type[Exception], int] = {LimitRequestLine: 414, LimitRequestHeaders: 431, ExpectationFailed: 417}


class ProblemAnswers:
    """Answers refused messages with problem documents (RFC 9457), and logs them without quoting them: what can't be
    read may well be a token, or an attempt at the log."""

    log: Any

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:  # noqa: ARG002 - gunicorn's
        if not isinstance(exc, Exception):
            # The worker ends.
            return
        peer = addr[0] if addr else "unknown"
        if isinstance(exc, ParseException) and not isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName):
            status = refusal_status(exc)
            self.log.warning("refused a message of %s: %s", peer, type(exc).__name__)
        elif isinstance(exc, OSError):
            # The TLS handshake failed, or the connection did; there is nobody to answer in HTTP.
            self.log.warning("a connection of %s failed: %s", peer, type(exc).__name__)
            return
        elif is_exhaustion(exc):
            EXHAUSTION.tell(exc)
            return
        else:
            status = 500
            self.log.error("a request of %s failed", peer, exc_info=exc)
        write_nonblock(client, problem_bytes(status))
        linger(client)


def refusal_status(error: ParseException) -> int:
    """The status of the answer to a message that the parser refuses."""
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 400)


def problem_bytes(status: int) -> bytes:
    """A whole answer that ends its connection."""
    code, title = TOLD.get(status) or TOLD[400 if status < 500 else 500]
    phrase = HTTPStatus(status).phrase
    document = {
        "type": f"urn:gateway:problem:{code}",
        "title": title,
        "status": status,
        "detail": phrase,
        "instance": "",
    }
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nX-Gateway-Error: {code}\r\n\r\n"
    )
    return head.encode() + body
