"""Every way in which the gateway itself refuses or fails, as one small tree.

The engines raise these, `problems` turns them into responses in one place. A `detail` is shown to clients, so it
never names an internal host or quotes an exception; the cause is for the log (`raise … from error`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ConfigurationError(Exception):
    """The configuration can't be used. `errors` has a line for each, with the full name of the setting."""

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(self.errors))

    def listing(self) -> str:
        """One error a line, indented."""
        return "\n".join(f"  {line}" for line in self.errors)


class LibraryMismatch(Exception):
    """Installed libraries behave in another way than the gateway needs. `mismatches` has a line each."""

    def __init__(self, mismatches: Sequence[str]) -> None:
        self.mismatches = list(mismatches)
        super().__init__("; ".join(self.mismatches))

    def listing(self) -> str:
        """What to tell whoever starts the gateway."""
        lines = "".join(f"\n  {line}" for line in self.mismatches)
        return f"The gateway does not work with the installed libraries; install those of requirements.txt.{lines}"


class RevocationNotStored(Exception):
    """Redis answered, but reading back shows that what was written is not there."""


def describe(cause: BaseException) -> str:
    """A cause as operators read it. Not its `repr`, which may quote what could not be read: a token, say."""
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


def reason_of(error: BaseException) -> str:
    """Why something failed, in words: the error's and its causes', without the names of classes."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
        if text and not any(text in one for one in texts):
            texts.append(text)
        cause = cause.__cause__
    return ": ".join(texts) or "for no reason that is known"


def drop_tracebacks(error: BaseException | None) -> None:
    """Drops the tracebacks of an error that has been dealt with, and of its causes. Their frames refer to the request,
    which refers to the error: only the garbage collector could free them, and would stop the worker to do so (160 ms
    after a flood of refused requests)."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class GatewayError(Exception):
    """An answer that the gateway gives by itself (RFC 9457): stable `code`, `status`, `title`, and a `detail`."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The gateway failed"

    def __init__(self, detail: str = "", headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = list(headers)


class BadRequest(GatewayError):
    code, status, title = "bad_request", 400, "The request can't be understood"


class TargetTooLong(BadRequest):
    status, title = 414, "The request line is too long"


class HeadTooLarge(BadRequest):
    status, title = 431, "The request's header is too large"


class UnknownExpectation(BadRequest):
    status, title = 417, "The expectation can't be met"


class UnsupportedCoding(BadRequest):
    code, status, title = "unsupported_coding", 501, "The transfer coding is not supported"


class UnsupportedVersion(BadRequest):
    code, status, title = "unsupported_version", 505, "The version of HTTP is not supported"


class Misdirected(GatewayError):
    code, status, title = "misdirected", 421, "The host is not served here"


class BadPath(GatewayError):
    code, status, title = "bad_path", 400, "The path is refused"


class AmbiguousPath(BadPath):
    """`reading` is how servers could read the path, with another policy."""

    def __init__(self, reading: str) -> None:
        super().__init__("the path can be read in more than one way")
        self.reading = reading


class MissingToken(GatewayError):
    code, status, title = "missing_token", 401, "A bearer token is needed"
    reason = "missing"


class InvalidToken(GatewayError):
    """`reason` is a short stable word for log and metrics: `expired`, `signature`, `claims`, …"""

    code, status, title = "invalid_token", 401, "The bearer token is not valid"

    def __init__(self, detail: str, reason: str) -> None:
        super().__init__(detail)
        self.reason = reason


class InsufficientScope(GatewayError):
    code, status, title = "insufficient_scope", 403, "The token lacks a scope"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(f"missing: {' '.join(missing)}")
        self.missing = list(missing)


class NoRoute(GatewayError):
    code, status, title = "no_route", 404, "No service has this path"


class Undocumented(GatewayError):
    code, status, title = "undocumented", 404, "The service's API document has no such operation"


class MethodNotAllowed(GatewayError):
    code, status, title = "method_not_allowed", 405, "The method is not allowed here"


class BodyTooLarge(GatewayError):
    code, status, title = "body_too_large", 413, "The request's body is too large"


class QuotaExceeded(GatewayError):
    code, status, title = "quota_exceeded", 429, "The quota is used up"


class UpgradeRefused(GatewayError):
    code, status, title = "upgrade_refused", 501, "WebSockets are not supported"

    def __init__(self) -> None:
        super().__init__("WebSocket connections don't pass this gateway")


class Unavailable(GatewayError):
    """503 with Retry-After (RFC 9110 10.2.3), in whole seconds."""

    status = 503

    def __init__(self, detail: str = "", retry_after_seconds: int = 1) -> None:
        super().__init__(detail, [("Retry-After", str(retry_after_seconds))])


class Overloaded(Unavailable):
    code, title = "overloaded", "The service has too many requests in flight"


class TooManyConnections(Overloaded):
    title = "There are too many connections from this address"


class KeysUnavailable(Unavailable):
    code, title = "keys_unavailable", "Tokens can't be verified at the moment"
    reason = "keys_unavailable"


class LimiterUnavailable(Unavailable):
    code, title = "limiter_unavailable", "LimitSets can't be checked at the moment"


class DocumentUnavailable(Unavailable):
    code, title = "document_unavailable", "The API document is not available at the moment"


class UpstreamError(GatewayError):
    """The service failed, before the first byte of its answer went out."""


class UpstreamConnectError(UpstreamError):
    """No connection, or it ended before the head of an answer."""

    code, status, title = "upstream_unreachable", 502, "The service can't be reached"


class UpstreamConnectionStale(UpstreamConnectError):
    """A connection that was idle before had been closed, or was out of step: it says nothing about the service, which
    may have seen the request or not."""


class UpstreamNotReached(UpstreamConnectError):
    """No connection: the service has seen nothing of the request."""


class UpstreamProtocolError(UpstreamError):
    code, status, title = "upstream_protocol", 502, "The service's answer can't be understood"


class UpstreamTimeout(UpstreamError):
    code, status, title = "upstream_timeout", 504, "The service did not answer in time"


class UpstreamConnectTimeout(UpstreamTimeout):
    """No connection in time: the service has seen nothing of the request."""


class UpstreamOpen(Unavailable):
    """All targets have failed so often that none is asked at the moment."""

    code, title = "upstream_open", "The service has failed and is left alone for a moment"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("try again when Retry-After has passed", retry_after_seconds)


class StreamAborted(Exception):
    """The exchange can't be finished and nobody can be told: the connection to the client is to be cut."""


class ClientDisconnected(StreamAborted):
    """The client went away, or stopped in the middle of its body."""


class UpstreamBodyError(StreamAborted):
    """The service failed after the head of its answer had gone out."""
