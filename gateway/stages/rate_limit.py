"""Rate limits in Flask. Flask-Limiter sees a single limit that stands for all limits of a request, so that one round
trip charges all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from flask import Flask
from flask_limiter import Limit, Limiter
from flask_limiter.errors import RateLimitExceeded

from gateway import context
from gateway.config import RateLimitSettings
from gateway.context import Exchange
from gateway.errors import LibraryMismatch
from gateway.proxy.trusted_proxies import rate_limit_address
from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.rate_limiting.flask_limiter_backend import ALL_LIMITS, SCHEME, STRATEGY
from gateway.rate_limiting.limit_sets import Caller, LimitSets
from gateway.rate_limiting.models import RateLimitState

if TYPE_CHECKING:
    from flask_limiter._limits import RuntimeLimit


class RequestLimits(Limit):
    """The limits of the current request, in the form of one of Flask-Limiter's default limits. Iterating it yields
    nothing if no limits apply, else a single limit that stands for all of them."""

    def __init__(self, settings: RateLimitSettings, limit_sets: LimitSets) -> None:
        super().__init__("1/minute", key_function=caller_key, scope="gateway", shared=True)
        self._limit_sets = limit_sets
        self._exempt_networks = [ip_network(network) for network in settings.exempt_addresses]
        (one,) = super().__iter__()
        one.limit = ALL_LIMITS
        self._whole = (one,)

    def __iter__(self) -> Iterator[RuntimeLimit]:
        exchange = context.current()
        policy = exchange.policy
        if policy is None or policy.rate_limit.cost == 0 or self._is_exempt(exchange):
            return iter(())
        principal = None if policy.rate_limit.by_address else exchange.principal
        caller = Caller(
            principal,
            rate_limit_address(exchange.client.address),
            exchange.headers,
            policy.service,
            policy.name,
        )
        limit_set = self._limit_sets.limit_set_for(policy, principal)
        limits = exchange.limits
        limits.checks = limit_set.checks_for(caller, policy.rate_limit.cost)
        limits.names = limit_set.names
        limits.partition_key = limit_set.partition_key(caller)
        limits.observed = policy.rate_limit.observed
        # A limit that is only observed must not refuse a request, not even when Redis fails.
        is_closed = policy.rate_limit.on_redis_failure == "closed"
        limits.on_failure = "local" if is_closed and limits.observed else policy.rate_limit.on_redis_failure
        return iter(self._whole)

    def _is_exempt(self, exchange: Exchange) -> bool:
        if exchange.principal is not None and self._limit_sets.is_exempt(exchange.principal):
            return True
        if not self._exempt_networks:
            return False
        try:
            address = ip_address(exchange.client.address)
        except ValueError:
            return False
        return any(address in network for network in self._exempt_networks)


def caller_key() -> str:
    """Identifies the caller, for limits that an extension adds with Flask-Limiter."""
    exchange = context.current()
    return Caller(exchange.principal, rate_limit_address(exchange.client.address), (), "", "").key


class GatewayLimiter(Limiter):
    """Flask-Limiter without its search for the limits of a view, which takes longer than the round trip to Redis. The
    search runs only if an extension has added limits, exemptions or filters."""

    def __init__(self, own: RequestLimits, **options: Any) -> None:
        super().__init__(caller_key, default_limits=[own], **options)
        self._own = own
        self._has_searched = False

    def init_app(self, app: Flask) -> None:
        super().init_app(app)
        hooks: Any
        for hooks in (app.after_request_funcs[None], app.teardown_request_funcs[None]):
            if self.enabled:
                hook = hooks.pop()
                # A hook may be a partial function, whose function is in `func`.
                if not getattr(hook, "func", hook).__module__.startswith("flask_limiter."):
                    raise LibraryMismatch(["Flask-Limiter does not register its hooks as the last ones"])
                hooks.append(self._where_searched(hook))

    def _where_searched(self, hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Makes a hook of Flask-Limiter run only after a search, as the hook reads the search's results."""

        def run(given: Any) -> Any:
            return hook(given) if self._has_searched else given

        return run

    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:
        if callable_name is not None or not self._has_only_own():
            self._has_searched = True
            super()._check_request_limit(callable_name, in_middleware)
        elif self.enabled:
            for limit in self._own:
                if not self.limiter.hit(limit.limit):
                    raise RateLimitExceeded(limit)

    def _has_only_own(self) -> bool:
        manager = self.limit_manager
        return not (
            manager._decorated_limits
            or manager._blueprint_limits
            or manager._application_limits
            or manager._route_exemptions
            or manager._blueprint_exemptions
            or self._request_filters
            or self._meta_limits
            or self._on_breach
        )


def make_limiter(settings: RateLimitSettings, limit_sets: LimitSets, rate_limiter: FallbackLimiter) -> Limiter:
    """Flask-Limiter with the gateway's storage. Its `init_app` registers the check as the next stage."""
    limits = RequestLimits(settings, limit_sets)
    limiter = GatewayLimiter(
        limits,
        storage_uri=f"{SCHEME}://",
        storage_options={"rate_limiter": rate_limiter, "state": current_state},
        strategy=STRATEGY,
        # Flask-Limiter's headers cost two more round trips and add Retry-After to every response.
        headers_enabled=False,
        enabled=settings.enabled,
    )
    limits.bind(limiter)
    return limiter


def current_state() -> RateLimitState | None:
    exchange = context.current_or_none()
    return exchange.limits if exchange is not None else None
