"""Quotas in Flask: which limits a request has to pass, by which key, and what its client is told about them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING
from urllib.parse import quote

from flask import Flask, Response
from flask_limiter import Limit, Limiter

from gateway import context
from gateway.config import RateLimitSettings
from gateway.context import Exchange
from gateway.limits.extension import SCHEME, STRATEGY, Batch, ask_for
from gateway.limits.ladder import Ladder
from gateway.limits.window import Outcome

if TYPE_CHECKING:
    from flask_limiter._limits import RuntimeLimit

IPV6_PREFIX = 64  # what one customer gets: an address alone would be as many callers as one likes


class RequestLimits(Limit):
    """The limits of the request at hand, for Flask-Limiter's list of defaults. They go into one batch."""

    def __init__(self, settings: RateLimitSettings) -> None:
        super().__init__("")
        self._default = plan(settings.default, "default")
        self._anonymous = plan(settings.anonymous, "anonymous")
        self._own: dict[str, tuple[RuntimeLimit, ...]] = {}

    def __iter__(self) -> Iterator[RuntimeLimit]:
        exchange = context.current()
        limits = self._limits_for(exchange)
        caller = caller_key()
        for limit in limits:
            key = limit.limit.key_for(caller, str(limit.scope))
            exchange.quota.asks[key] = ask_for(limit.limit, key, 1)
            exchange.quota_names[key] = str(limit.scope)
        return iter(limits)

    def _limits_for(self, exchange: Exchange) -> tuple[RuntimeLimit, ...]:
        policy = exchange.policy
        if policy is None:
            return ()
        if policy.needs_token and exchange.principal is None:
            return self._anonymous
        if policy.limits:
            if policy.quota not in self._own:
                self._own[policy.quota] = plan("; ".join(policy.limits), policy.quota)
            return self._own[policy.quota]
        return self._anonymous if exchange.principal is None else self._default


def plan(text: str, name: str) -> tuple[RuntimeLimit, ...]:
    """The limits of a text such as "10/second; 300/minute", parsed once, counted together wherever they apply."""
    return tuple(Limit(text, key_function=caller_key, scope=name, shared=True))


def caller_key() -> str:
    """Whose quota it is. Quoted, so that no subject can be written to look like another caller's key."""
    exchange = context.current()
    if exchange.principal is not None:
        principal = exchange.principal
        return f"user:{quoted(principal.issuer)}:{quoted(principal.subject)}"
    return f"address:{quota_address(exchange.client_address)}"


def quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def quota_address(address: str) -> str:
    """The address, or the /64 network of an IPv6 one. Not an address (a unix socket's peer): as it is."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address or "unknown"
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Network((parsed, IPV6_PREFIX), strict=False))
    return address


def make_limiter(settings: RateLimitSettings, ladder: Ladder) -> Limiter:
    """Flask-Limiter on the gateway's storage; `init_app` adds its check behind the hooks registered by then."""
    limits = RequestLimits(settings)
    limiter = Limiter(
        caller_key,
        default_limits=[limits],
        storage_uri=f"{SCHEME}://",
        storage_options={"ladder": ladder, "batch": current_batch},  # type: ignore[dict-item] # our storage's own
        strategy=STRATEGY,
        # Rendered here: Flask-Limiter's own cost two more round trips and put Retry-After onto every answer.
        headers_enabled=False,
        enabled=settings.enabled,
    )
    limits.bind(limiter)
    return limiter


def current_batch() -> Batch | None:
    exchange = context.current_or_none()
    return exchange.quota if exchange is not None else None


def install_headers(app: Flask) -> None:
    app.after_request(tell_quota)


def tell_quota(response: Response) -> Response:
    """The quota's fields: X-RateLimit-* for the limit nearest to exhaustion, and those of
    draft-ietf-httpapi-ratelimit-headers."""
    exchange = context.current_or_none()
    if exchange is None or not exchange.quota.outcomes:
        return response
    names = policy_names(exchange)
    key, outcome = nearest(exchange)
    reset = math.ceil(outcome.reset_seconds if outcome.passed else outcome.retry_after_seconds)
    fields: Mapping[str, str] = {
        "X-RateLimit-Limit": str(exchange.quota.asks[key].amount),
        "X-RateLimit-Remaining": str(outcome.remaining),
        "X-RateLimit-Reset": str(reset),
        "RateLimit-Policy": ", ".join(
            f'"{names[key]}";q={ask.amount};w={ask.window_seconds}' for key, ask in exchange.quota.asks.items()
        ),
        "RateLimit": f'"{names[key]}";r={outcome.remaining};t={reset}',
    }
    for name, value in fields.items():
        response.headers[name] = value
    if exchange.error_code == "quota_exceeded":
        response.headers["Retry-After"] = str(retry_after(exchange))
    return response


def policy_names(exchange: Exchange) -> dict[str, str]:
    """The limits' names by key; several windows under one name are told apart by their length: `default-60`."""
    names = exchange.quota_names
    if len(names) < 2:
        return names
    return {key: f"{name}-{exchange.quota.asks[key].window_seconds}" for key, name in names.items()}


def nearest(exchange: Exchange) -> tuple[str, Outcome]:
    """The limit that refused, or has the smallest share left."""
    asks = exchange.quota.asks
    return min(
        exchange.quota.outcomes.items(),
        key=lambda item: (item[1].passed, item[1].remaining / max(1, asks[item[0]].amount)),
    )


def retry_after(exchange: Exchange) -> int:
    """Whole seconds until all limits would pass, rounded up: never too early (RFC 9110 10.2.3)."""
    return max([1, *(math.ceil(outcome.retry_after_seconds) for outcome in exchange.quota.outcomes.values())])


def violated_policies(exchange: Exchange) -> list[str]:
    names = policy_names(exchange)
    return [names[key] for key, outcome in exchange.quota.outcomes.items() if not outcome.passed]
