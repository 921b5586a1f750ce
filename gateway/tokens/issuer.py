"""One issuer of tokens: its keys, and what else a token of its must be (RFC 7519, 8725, 9068)."""

from __future__ import annotations

from typing import Any, Protocol

import jwt

from gateway.errors import InvalidToken
from gateway.tokens.compact import CompactTokens
from gateway.tokens.key_source import KeySource

# What is told to the client, and the word for log and metrics. Order matters: the first that fits is taken.
REASONS: tuple[tuple[type[Exception], str, str], ...] = (
    (jwt.MissingRequiredClaimError, "missing_claim", "the token lacks a claim that is required"),
    (jwt.InvalidIssuerError, "issuer", "the token's issuer is not accepted"),
    (jwt.InvalidAudienceError, "audience", "the token is meant for someone else"),
    (jwt.InvalidSignatureError, "signature", "the token's signature does not match"),
    (jwt.InvalidAlgorithmError, "algorithm", "the token's algorithm is not accepted"),
)


class IssuerRules(Protocol):
    """What the configuration says of an issuer."""

    @property
    def issuer(self) -> str | None: ...
    @property
    def audience(self) -> str | tuple[str, ...] | None: ...
    @property
    def token_type(self) -> str | None: ...
    @property
    def lifetime_seconds(self) -> float | None: ...


class Issuer:
    """Verifies tokens of one issuer. `required_claims` have `exp` and `sub` among them always."""

    def __init__(self, rules: IssuerRules, keys: KeySource, required_claims: tuple[str, ...]) -> None:
        self.name = rules.issuer or ""
        self.keys = keys
        self.lifetime_seconds = rules.lifetime_seconds
        self._rules = rules
        self._tokens = CompactTokens(
            {
                # Without `exp` a token would be good for ever, so it is always required.
                "require": sorted({"exp", "sub", *required_claims}),
                "enforce_minimum_key_length": True,
            }
        )

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature, issuer, audience and type are right; times are not looked at.

        Raises InvalidToken, KeysUnavailable."""
        try:
            key = self.keys.only_key
            if key is None or self._rules.token_type is not None:
                header = self._tokens.header(token)
                self._check_type(header)
                key = self.keys.find(header.get("kid"), text(header.get("alg")))
            # A token with an audience is for that audience only, also where none is configured (RFC 7519 4.1.3).
            return self._tokens.verified_claims(token, key, self._rules.audience, self._rules.issuer)
        # Beside its own errors PyJWT lets through what json, base64 and int() raise for hostile input.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            for kind, reason, detail in REASONS:
                if isinstance(error, kind):
                    raise InvalidToken(detail, reason) from error
            raise malformed() from error

    def _check_type(self, header: dict[str, Any]) -> None:
        """`typ` where it is configured: an ID token or a refresh token is no access token (RFC 8725 3.11)."""
        wanted = self._rules.token_type
        if wanted is not None and text(header.get("typ")).lower().removeprefix("application/") != wanted.lower():
            raise InvalidToken("the token is of another type", "type")


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def malformed() -> InvalidToken:
    return InvalidToken("the token can't be read", "malformed")
