"""The exchange: what the stages know about one request and its response. Each attribute is set by one stage and read by
later ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.errors import InvalidToken, KeysUnavailable, MissingToken
from gateway.http_fields import HeaderPairs
from gateway.proxy.forward_request import Attempt
from gateway.proxy.path_validation import RequestTarget
from gateway.proxy.trusted_proxies import ClientInfo
from gateway.rate_limiting.models import RateLimitState
from gateway.route_policy import RoutePolicy
from gateway.tokens.principal import Principal
from gateway.trace_context import Trace

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


@dataclass(slots=True)
class Exchange:
    """One request and its response. Times are monotonic seconds."""

    # Set by stages/start.py. The request id is the client's, if it is valid, or a new one.
    request_id: str
    started: float
    method: str
    # The request target as it stands in the request line.
    raw_target: str
    headers: HeaderPairs
    client: ClientInfo
    environ: WSGIEnvironment = field(repr=False)
    # None with `tracing.propagate = false`.
    trace: Trace | None = None
    # Set by stages/path_check.py. `policy` stays None if no route of a service matches.
    target: RequestTarget | None = None
    policy: RoutePolicy | None = None
    # Set by stages/authentication.py: the principal, or the reason why there is none. The client gets this error only
    # if the policy requires a token.
    principal: Principal | None = None
    token_problem: MissingToken | InvalidToken | KeysUnavailable | None = None
    # Headers that describe the principal to the service.
    identity_headers: Sequence[tuple[str, str]] = ()
    # Set by stages/rate_limit.py: the limits of the request, and the results.
    limits: RateLimitState = field(default_factory=RateLimitState)
    # Set by stages/operation_check.py.
    is_undocumented: bool = False
    # Set by routes/upstream.py. `is_stream`: the response is a stream of events, so its duration is not a latency.
    is_stream: bool = False
    upstream_seconds: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    # Set by stages/problems.py, or by stages/finish.py for a response that broke off.
    error_code: str = ""
    error_cause: str = ""
    # Time until the head of the response was ready, without the time spent waiting for Redis and the service.
    own_seconds: float = 0.0
    # The URL rule, set only if spans are recorded: Flask forgets the rule before the response has been sent.
    url_rule: str | None = None

    @property
    def trace_id(self) -> str | None:
        return self.trace.trace_id if self.trace is not None else None


# A context variable instead of flask.g, whose look-up takes ten times as long; each stage looks the exchange up once.
_exchange: ContextVar[Any] = ContextVar("exchange", default=None)


def begin(exchange: Exchange) -> None:
    _exchange.set(exchange)


def end() -> None:
    """Forgets the exchange: before a request starts, and after its response has been sent."""
    _exchange.set(None)


def current() -> Exchange:
    """The exchange of the current request. To be called only after `begin`."""
    exchange: Exchange = _exchange.get()
    return exchange


def current_or_none() -> Exchange | None:
    exchange: Exchange | None = _exchange.get()
    return exchange
