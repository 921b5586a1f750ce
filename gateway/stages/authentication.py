"""Authentication: who is calling. Authorization: whether the policy of the route lets the caller in."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gateway import context
from gateway.config import JwtSettings, RevocationSettings
from gateway.context import Exchange
from gateway.errors import BadRequest, InsufficientScope, InvalidToken, KeysUnavailable, MissingToken, drop_tracebacks
from gateway.http_fields import HeaderPairs
from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.rate_limiting.models import RevocationLookup
from gateway.telemetry.metrics.registry import Metrics
from gateway.tokens.identity_signer import IdentitySigner
from gateway.tokens.principal import Principal
from gateway.tokens.revocation import revocation_keys_of, revocation_reason
from gateway.tokens.verifier import Verifier

log = logging.getLogger(__name__)


class Authentication:
    """`authenticate` runs before the limits are charged, and refuses no request. `authorize` is a guard of each
    service: it refuses requests whose token the policy does not accept.

    `signer` is None unless `identity.sign` is set."""

    def __init__(
        self,
        verifier: Verifier,
        revocation: RevocationSettings,
        rate_limiter: FallbackLimiter,
        jwt: JwtSettings,
        signer: IdentitySigner | None,
        metrics: Metrics,
    ) -> None:
        self._verifier = verifier
        self._revocation = revocation
        self._rate_limiter = rate_limiter
        self._cookie = jwt.cookie
        self._passes_cookie_on = jwt.cookie_as_authorization
        self._signer = signer
        self._metrics = metrics
        self._is_failing = False

    def authenticate(self) -> None:
        """Sets the exchange's principal, or the reason why there is none. Asks the limiter to look up the token's
        revocation in the round trip that charges the limits."""
        exchange = context.current()
        try:
            exchange.principal = self._verifier.principal(presented_token(exchange.headers, self._cookie))
        except (MissingToken, InvalidToken, KeysUnavailable) as error:
            drop_tracebacks(error)
            exchange.token_problem = error
            return
        if self._revocation.enabled:
            exchange.limits.revocation_lookup = RevocationLookup(revocation_keys_of(exchange.principal))

    def authorize(self) -> None:
        """Raises MissingToken, InvalidToken or KeysUnavailable if the policy requires a token and there is no
        principal, InsufficientScope if the principal lacks a scope."""
        exchange = context.current()
        policy = exchange.policy
        if exchange.principal is not None:
            self._check_revocation(exchange)
        if policy is None:
            return
        if policy.needs_token:
            principal = self._required_principal(exchange)
            missing = [scope for scope in policy.scopes if scope not in principal.scopes]
            if missing:
                self._metrics.token_refusals.labels("scope").inc()
                raise InsufficientScope(missing)
        if exchange.principal is not None:
            exchange.identity_headers = self._identity_headers(exchange.principal, policy.service)
            if self._passes_cookie_on and not any(name.lower() == "authorization" for name, _ in exchange.headers):
                token = presented_token(exchange.headers, self._cookie)
                exchange.identity_headers = [*exchange.identity_headers, ("Authorization", f"Bearer {token}")]

    def require(self) -> None:
        """Requires a valid token, for routes of the gateway itself. Raises what `authorize` raises, except
        InsufficientScope."""
        exchange = context.current()
        if exchange.principal is not None:
            self._check_revocation(exchange)
        self._required_principal(exchange)

    def _required_principal(self, exchange: Exchange) -> Principal:
        if exchange.principal is None:
            problem = exchange.token_problem or MissingToken()
            self._metrics.token_refusals.labels(problem.reason).inc()
            raise problem
        return exchange.principal

    def _identity_headers(self, principal: Principal, service: str) -> Sequence[tuple[str, str]]:
        """The headers that describe the principal to the service."""
        if self._signer is None:
            return principal.identity_headers
        return [*principal.identity_headers, self._signer.header_for(principal, service)]

    def _check_revocation(self, exchange: Exchange) -> None:
        """Removes the principal if its token is revoked. On a public route the request then continues without a
        principal."""
        lookup, principal = exchange.limits.revocation_lookup, exchange.principal
        if lookup is None or principal is None or self._rate_limiter.state == "not configured":
            return
        if not exchange.limits.is_checked:
            # No limit applies to this request, so no round trip to Redis has looked up the revocation yet.
            self._rate_limiter.consume([], lookup=lookup, partition_key=principal.subject)
        if lookup.values is None:
            self._log_change(is_failing=True)
            self._metrics.revocations_unseen.inc()
            if self._revocation.on_redis_failure == "closed":
                exchange.principal = None
                exchange.token_problem = KeysUnavailable("the revocation of the token can't be checked")
            return
        self._log_change(is_failing=False)
        if why := revocation_reason(principal, lookup.values):
            exchange.principal = None
            exchange.token_problem = InvalidToken(why, "revoked")

    def _log_change(self, *, is_failing: bool) -> None:
        """Logs once when revocations can't be looked up any more, and once when they can be again."""
        if is_failing and not self._is_failing:
            log.error(
                "revocations can't be looked up; revocation.on_redis_failure = %r applies",
                self._revocation.on_redis_failure,
            )
        elif self._is_failing and not is_failing:
            log.warning("revocations can be looked up again")
        self._is_failing = is_failing


def presented_token(fields: HeaderPairs, cookie: str | None) -> str:
    """The token of the Authorization header (RFC 6750 2.1); if there is none, the token of the cookie named `cookie`.

    Raises MissingToken, InvalidToken, BadRequest."""
    values = [value for name, value in fields if name.lower() == "authorization"]
    if len(values) > 1:
        # The gateway and the service could each use a different one of the headers.
        raise BadRequest("more than one Authorization header")
    if not values and cookie is not None and (found := cookie_values(fields, cookie)):
        if len(found) > 1:
            raise BadRequest(f"more than one cookie named {cookie}")
        return found[0]
    scheme, _, token = values[0].partition(" ") if values else ("", "", "")
    if scheme.lower() != "bearer":
        raise MissingToken("send an Authorization header with a bearer token")
    token = token.strip(" ")
    if not token:
        raise InvalidToken("the token is empty", "malformed")
    return token


def cookie_values(fields: HeaderPairs, name: str) -> list[str]:
    """The values of the cookies of this name (RFC 6265 5.4), in order."""
    pairs = [pair for key, value in fields if key.lower() == "cookie" for pair in value.split(";")]
    values = []
    for pair in pairs:
        key, separator, value = pair.strip(" \t").partition("=")
        if separator and key == name:
            values.append(value.strip('"'))
    return values
