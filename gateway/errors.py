"""The errors of the gateway, in one tree.

The engines raise them; `stages/problems.py` turns them into responses. Clients see `detail`, so it never contains an
internal host or the text of an exception. The cause (`raise … from error`) goes to the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class CannotStart(Exception):
    """The gateway can't start. `errors` has a line for each reason."""

    heading: ClassVar[str]

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(self.errors))

    def listing(self) -> str:
        """All errors in one message, for the person who starts the gateway."""
        return "\n  ".join([self.heading, *self.errors])


class ConfigurationError(CannotStart):
    """The configuration can't be used. Each line has the full name of the setting."""

    heading = "The configuration can't be used:"


class LibraryMismatch(CannotStart):
    """Installed libraries don't behave as the gateway needs. Each line is one difference."""

    heading = "The installed libraries don't fit the gateway; install those of requirements.txt."


class RevocationNotStored(Exception):
    """Redis accepted a revocation, but a read right after it did not return it."""


def describe(cause: BaseException) -> str:
    """Class name and message of an exception, for the log. `repr` is not used: it can contain the input that could not
    be parsed, such as a token."""
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


def reason_of(error: BaseException) -> str:
    """The messages of an error and its causes, joined, without class names."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
        if text and not any(text in one for one in texts):
            texts.append(text)
        cause = cause.__cause__
    return ": ".join(texts) or "unknown reason"


def drop_tracebacks(error: BaseException | None) -> None:
    """Removes the tracebacks of a handled error and its causes. A traceback's frames refer to the request, and the
    request refers to the error: only the garbage collector could free such a cycle, and it stopped a worker for 160 ms
    after a flood of refused requests."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class GatewayError(Exception):
    """An error response of the gateway itself (RFC 9457): a stable `code`, `status` and `title`, and a `detail`."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The gateway failed"

    def __init__(self, detail: str = "", headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = list(headers)


class BadRequest(GatewayError):
    code, status, title = "bad_request", 400, "The request is malformed"


class TargetTooLong(BadRequest):
    status, title = 414, "The request line is too long"


class HeadTooLarge(BadRequest):
    status, title = 431, "The request's header is too large"


class UnknownExpectation(BadRequest):
    status, title = 417, "The expectation is not supported"


class UnsupportedCoding(BadRequest):
    code, status, title = "unsupported_coding", 501, "The transfer coding is not supported"


class UnsupportedVersion(BadRequest):
    code, status, title = "unsupported_version", 505, "The version of HTTP is not supported"


class Misdirected(GatewayError):
    code, status, title = "misdirected", 421, "The gateway does not serve this host"


class BadPath(GatewayError):
    code, status, title = "bad_path", 400, "The path is refused"


class AmbiguousPath(BadPath):
    """A server could interpret the path as the path `reading`, whose policy is another one than that of the path as the
    gateway interprets it."""

    def __init__(self, reading: str) -> None:
        super().__init__("the path can be read in more than one way")
        self.reading = reading


class MissingToken(GatewayError):
    code, status, title = "missing_token", 401, "A bearer token is required"
    reason = "missing"


class InvalidToken(GatewayError):
    """The token is refused. `reason` is a short stable word for the log and the metrics: `expired`, `signature`,
    `claims`, …"""

    code, status, title = "invalid_token", 401, "The bearer token is not valid"

    def __init__(self, detail: str, reason: str) -> None:
        super().__init__(detail)
        self.reason = reason


class InsufficientScope(GatewayError):
    code, status, title = "insufficient_scope", 403, "The token lacks a required scope"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(f"missing: {' '.join(missing)}")
        self.missing = list(missing)


class NoRoute(GatewayError):
    code, status, title = "no_route", 404, "No service has this path"


class Undocumented(GatewayError):
    code, status, title = "undocumented", 404, "The API document does not have this operation"


class MethodNotAllowed(GatewayError):
    code, status, title = "method_not_allowed", 405, "The method is not allowed"


class BodyTooLarge(GatewayError):
    code, status, title = "body_too_large", 413, "The request's body is too large"


class QuotaExceeded(GatewayError):
    code, status, title = "quota_exceeded", 429, "The rate limit is exceeded"


class UpgradeRefused(GatewayError):
    code, status, title = "upgrade_refused", 501, "WebSockets are not supported"

    def __init__(self) -> None:
        super().__init__("the gateway does not forward WebSocket connections")


class Unavailable(GatewayError):
    """A 503 response with Retry-After (RFC 9110 10.2.3), in whole seconds."""

    status = 503

    def __init__(self, detail: str = "", retry_after_seconds: int = 1) -> None:
        super().__init__(detail, [("Retry-After", str(retry_after_seconds))])


class Overloaded(Unavailable):
    code, title = "overloaded", "The service has too many requests in flight"


class TooManyConnections(Overloaded):
    title = "Too many connections from this address"


class KeysUnavailable(Unavailable):
    code, title = "keys_unavailable", "Tokens can't be verified at the moment"
    reason = "keys_unavailable"


class LimiterUnavailable(Unavailable):
    code, title = "limiter_unavailable", "Rate limits can't be checked at the moment"


class DocumentUnavailable(Unavailable):
    code, title = "document_unavailable", "The API document is not available at the moment"


class UpstreamError(GatewayError):
    """The service failed before the first byte of its response was sent to the client."""


class UpstreamConnectError(UpstreamError):
    """The connection failed, or it ended before the head of a response arrived."""

    code, status, title = "upstream_unreachable", 502, "The service can't be reached"


class UpstreamConnectionStale(UpstreamConnectError):
    """An idle connection turned out to be closed when a request was sent on it. This says nothing about the health of
    the service, and the service may or may not have received the request."""


class UpstreamNotReached(UpstreamConnectError):
    """The connection failed: the service has received nothing of the request."""


class UpstreamProtocolError(UpstreamError):
    code, status, title = "upstream_protocol", 502, "The service's response is malformed"


class UpstreamTimeout(UpstreamError):
    code, status, title = "upstream_timeout", 504, "The service did not respond in time"


class UpstreamConnectTimeout(UpstreamTimeout):
    """The connection was not established in time: the service has received nothing of the request."""


class UpstreamOpen(Unavailable):
    """The breakers of all targets are open."""

    code, title = "upstream_open", "The service is failing; requests to it are paused"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("try again when Retry-After has passed", retry_after_seconds)


class StreamAborted(Exception):
    """The response can't be completed, and it is too late for an error response: the connection to the client is
    aborted."""


class ClientDisconnected(StreamAborted):
    """The client closed the connection, or stopped sending within its body."""


class UpstreamBodyError(StreamAborted):
    """The service failed after the head of its response was sent to the client."""
