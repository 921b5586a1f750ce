"""Who is calling, told to the later stages; and whether the route lets them in."""

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
    """`authenticate` runs before the quota is taken and answers nothing; `authorize` guards each service.

    `signer` is there where services get the caller's identity signed."""

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
        """Finds the principal, or why there is none; its revocation is looked up together with the quota."""
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
        """Raises MissingToken, InvalidToken, KeysUnavailable or InsufficientScope where the policy asks for more than
        there is."""
        exchange = context.current()
        policy = exchange.policy
        if exchange.principal is not None:
            self._check_revocation(exchange)
        if policy is None:
            return
        if policy.needs_token:
            principal = self._needed(exchange)
            missing = [scope for scope in policy.scopes if scope not in principal.scopes]
            if missing:
                self._metrics.token_refusals.labels("scope").inc()
                raise InsufficientScope(missing)
        if exchange.principal is not None:
            exchange.identity_headers = self._identity_of(exchange.principal, policy.service)
            if self._passes_cookie_on and not any(name.lower() == "authorization" for name, _ in exchange.headers):
                token = presented_token(exchange.headers, self._cookie)
                exchange.identity_headers = [*exchange.identity_headers, ("Authorization", f"Bearer {token}")]

    def require(self) -> None:
        """For what the gateway itself guards: any good token. Raises MissingToken, InvalidToken, KeysUnavailable."""
        exchange = context.current()
        if exchange.principal is not None:
            self._check_revocation(exchange)
        self._needed(exchange)

    def _needed(self, exchange: Exchange) -> Principal:
        if exchange.principal is None:
            problem = exchange.token_problem or MissingToken()
            self._metrics.token_refusals.labels(problem.reason).inc()
            raise problem
        return exchange.principal

    def _identity_of(self, principal: Principal, service: str) -> Sequence[tuple[str, str]]:
        """The fields that tell the service who is calling."""
        if self._signer is None:
            return principal.identity_headers
        return [*principal.identity_headers, self._signer.field_for(principal, service)]

    def _check_revocation(self, exchange: Exchange) -> None:
        """Takes the principal away from a revoked token; on a public route its request is anonymous then."""
        marks, principal = exchange.limits.revocation_lookup, exchange.principal
        if marks is None or principal is None or self._rate_limiter.state == "not configured":
            return
        if not exchange.limits.is_checked:
            # No limit applies to this request, so nobody has asked Redis yet.
            self._rate_limiter.consume([], lookup=marks, partition_key=principal.subject)
        if marks.values is None:
            self._tell(is_failing=True)
            self._metrics.revocations_unseen.inc()
            if self._revocation.on_redis_failure == "closed":
                exchange.principal = None
                exchange.token_problem = KeysUnavailable("it can't be seen whether the token was revoked")
            return
        self._tell(is_failing=False)
        if why := revocation_reason(principal, marks.values):
            exchange.principal = None
            exchange.token_problem = InvalidToken(why, "revoked")

    def _tell(self, *, is_failing: bool) -> None:
        """Logs once when revocations can't be seen any more, and when they can again."""
        if is_failing and not self._is_failing:
            log.error("revocations can't be seen; tokens are treated as %s", self._revocation.on_redis_failure)
        elif self._is_failing and not is_failing:
            log.warning("revocations can be seen again")
        self._is_failing = is_failing


def presented_token(fields: HeaderPairs, cookie: str | None) -> str:
    """The token of the Authorization field (RFC 6750 2.1), else of the cookie of that name.

    Raises MissingToken, InvalidToken, BadRequest."""
    values = [value for name, value in fields if name.lower() == "authorization"]
    if len(values) > 1:
        # Gateway and service might each believe another one.
        raise BadRequest("more than one Authorization field")
    if not values and cookie is not None and (found := cookie_values(fields, cookie)):
        if len(found) > 1:
            raise BadRequest("more than one cookie with a token")
        return found[0]
    scheme, _, token = values[0].partition(" ") if values else ("", "", "")
    if scheme.lower() != "bearer":
        raise MissingToken("send Authorization: Bearer with a token")
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
