"""What the stages tell each other about one request: written by the stage that knows it, read by the later ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.errors import InvalidToken, KeysUnavailable, MissingToken
from gateway.http_fields import HeaderPairs
from gateway.proxy.forward_request import Attempt
from gateway.proxy.forwarding_headers import ClientInfo
from gateway.proxy.path_validation import RequestTarget
from gateway.rate_limiting.models import RateLimitState
from gateway.route_policy import RoutePolicy
from gateway.tokens.principal import Principal
from gateway.trace_context import Trace

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


@dataclass(slots=True)
class ResponseFacts:
    """What only the server knows of a request, kept until its answer has gone out."""

    status: int
    route: str | None
    scheme: str
    host: str
    protocol: str


@dataclass(slots=True)
class Exchange:
    """One request and its answer. Times are monotonic seconds."""

    request_id: str
    started: float
    method: str
    raw_target: str
    headers: HeaderPairs
    client: ClientInfo
    environ: WSGIEnvironment = field(repr=False)
    # None where traces are none of the gateway's business.
    trace: Trace | None = None
    target: RequestTarget | None = None
    policy: RoutePolicy | None = None
    principal: Principal | None = None
    # Why there is no principal; told to the client only where the policy needs one.
    token_problem: MissingToken | InvalidToken | KeysUnavailable | None = None
    limits: RateLimitState = field(default_factory=RateLimitState)
    # What the service is told about the principal.
    identity_headers: Sequence[tuple[str, str]] = ()
    is_undocumented: bool = False
    # Whether the answer is a stream: how long it takes says nothing about anybody's speed.
    is_stream: bool = False
    error_code: str = ""
    error_cause: str = ""
    # How long it took until the head of the answer was ready, less what others took of it.
    own_seconds: float = 0.0
    upstream_seconds: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    # What spans tell of the answer, where they are recorded.
    response_facts: ResponseFacts | None = None

    @property
    def trace_id(self) -> str | None:
        return self.trace.trace_id if self.trace is not None else None


# Not on flask.g: to get there takes ten times as long, and each stage does it.
_exchange: ContextVar[Any] = ContextVar("exchange", default=None)


def begin(exchange: Exchange) -> None:
    _exchange.set(exchange)


def end() -> None:
    """No request has begun, or it is over."""
    _exchange.set(None)


def current() -> Exchange:
    """The one of the request at hand, which has begun."""
    exchange: Exchange = _exchange.get()
    return exchange


def current_or_none() -> Exchange | None:
    exchange: Exchange | None = _exchange.get()
    return exchange
