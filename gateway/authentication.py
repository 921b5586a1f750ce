"""Who is calling, told to the later stages; and whether the route lets them in."""

from __future__ import annotations

from gateway import context
from gateway.errors import BadRequest, InsufficientScope, InvalidToken, MissingToken
from gateway.proxy.headers import Pairs
from gateway.tokens.verifier import Verifier


class Authentication:
    """`authenticate` runs before the quota is taken and answers nothing; `authorize` guards each service."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def authenticate(self) -> None:
        """Finds the principal, or why there is none."""
        exchange = context.current()
        try:
            exchange.principal = self._verifier.principal(bearer_token(exchange.fields))
        except (MissingToken, InvalidToken) as error:
            exchange.token_problem = error

    def authorize(self) -> None:
        """Raises MissingToken, InvalidToken or InsufficientScope where the policy asks for more than there is."""
        exchange = context.current()
        policy = exchange.policy
        if policy is None or not policy.needs_token:
            return
        if exchange.principal is None:
            raise exchange.token_problem or MissingToken()
        missing = [scope for scope in policy.scopes if scope not in exchange.principal.scopes]
        if missing:
            raise InsufficientScope(missing)


def bearer_token(fields: Pairs) -> str:
    """The token of the Authorization field (RFC 6750 2.1). Raises MissingToken, InvalidToken, BadRequest."""
    values = [value for name, value in fields if name.lower() == "authorization"]
    if not values:
        raise MissingToken("send Authorization: Bearer with a token")
    if len(values) > 1:
        # Gateway and service might each believe another one.
        raise BadRequest("more than one Authorization field")
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer":
        raise MissingToken("send Authorization: Bearer with a token")
    token = token.strip(" ")
    if not token:
        raise InvalidToken("the token is empty", "malformed")
    return token
