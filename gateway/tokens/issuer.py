"""One issuer of tokens: its keys, and what else a token of its must be (RFC 7519, 8725, 9068)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import jwt

from gateway.errors import InvalidToken
from gateway.tokens.jws import CompactTokens
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
        self._type = None if rules.token_type is None else media_type(rules.token_type)
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
            if key is None or self._type is not None:
                header = self._tokens.header(token)
                if self._type is not None and media_type(text(header.get("typ"))) != self._type:
                    # An ID token or a refresh token is no access token (RFC 8725 3.11).
                    raise InvalidToken("the token is of another type", "type")
                return self._claims_by_any(token, header.get("kid"), text(header.get("alg")))
            return self._claims_by(key, token)
        # Beside its own errors PyJWT lets through what json, base64 and int() raise for hostile input.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            for kind, reason, detail in REASONS:
                if isinstance(error, kind):
                    raise InvalidToken(detail, reason) from error
            raise malformed() from error

    def _claims_by_any(self, token: str, kid: str | None, algorithm: str) -> dict[str, Any]:
        """By the key that signed it, of those that may have."""
        keys = self.keys.find(kid, algorithm)
        try:
            return self._claims_by_one_of(keys, token)
        except jwt.InvalidSignatureError:
            fresh = () if kid else self.keys.find_new(kid, algorithm, keys)
            if not fresh:
                raise
            return self._claims_by_one_of(fresh, token)

    def _claims_by_one_of(self, keys: Sequence[jwt.PyJWK], token: str) -> dict[str, Any]:
        for key in keys[:-1]:
            with suppress(jwt.InvalidSignatureError):
                return self._claims_by(key, token)
        return self._claims_by(keys[-1], token)

    def _claims_by(self, key: jwt.PyJWK, token: str) -> dict[str, Any]:
        # A token with an audience is for that audience only, also where none is configured (RFC 7519 4.1.3).
        return self._tokens.verified_claims(token, key, self._rules.audience, self._rules.issuer)


def media_type(typ: str) -> str:
    """A `typ` in the one way to compare it: in lower case, with the prefix that may be left out where there is no other
    slash (RFC 7515 4.1.9)."""
    return typ.lower() if "/" in typ else f"application/{typ.lower()}"


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def malformed() -> InvalidToken:
    return InvalidToken("the token can't be read", "malformed")
