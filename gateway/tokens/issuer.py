"""One issuer of tokens: its keys, and the rules that its tokens must meet (RFC 7519, 8725, 9068)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import jwt

from gateway.config import KeySettings
from gateway.errors import InvalidToken
from gateway.tokens.key_source import KeySource
from gateway.tokens.signature import CompactJWT

# For each exception of PyJWT: the reason for log and metrics, and the detail for the client. The first match counts.
REASONS: tuple[tuple[type[Exception], str, str], ...] = (
    (jwt.MissingRequiredClaimError, "missing_claim", "the token lacks a claim that is required"),
    (jwt.InvalidIssuerError, "issuer", "the token's issuer is not accepted"),
    (jwt.InvalidAudienceError, "audience", "the token is meant for someone else"),
    (jwt.InvalidSignatureError, "signature", "the token's signature does not match"),
    (jwt.InvalidAlgorithmError, "algorithm", "the token's algorithm is not accepted"),
)


class Issuer:
    """Verifies tokens of one issuer. `exp` and `sub` are required in addition to `required_claims`."""

    def __init__(self, settings: KeySettings, keys: KeySource, required_claims: tuple[str, ...]) -> None:
        self.name = settings.issuer or ""
        self.keys = keys
        self.lifetime_seconds = settings.lifetime_seconds
        self._settings = settings
        self._type = None if settings.token_type is None else media_type(settings.token_type)
        self._jwt = CompactJWT(
            {
                # A token without `exp` would be valid for ever.
                "require": sorted({"exp", "sub", *required_claims}),
                "enforce_minimum_key_length": True,
            }
        )

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature, issuer, audience and type are valid. Does not check times.

        Raises InvalidToken, KeysUnavailable."""
        try:
            key = self.keys.only_key
            if key is None or self._type is not None:
                header = self._jwt.header(token)
                if self._type is not None and media_type(text(header.get("typ"))) != self._type:
                    # An ID token or a refresh token is not an access token (RFC 8725 3.11).
                    raise InvalidToken("the token is of another type", "type")
                return self._claims_by_header(token, header.get("kid"), text(header.get("alg")))
            return self._claims_by(key, token)
        # Besides its own exceptions, PyJWT raises those of json, base64 and int() for hostile input.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            for kind, reason, detail in REASONS:
                if isinstance(error, kind):
                    raise InvalidToken(detail, reason) from error
            raise malformed() from error

    def _claims_by_header(self, token: str, kid: str | None, algorithm: str) -> dict[str, Any]:
        keys = self.keys.find(kid, algorithm)
        try:
            return self._claims_by_one_of(keys, token)
        except jwt.InvalidSignatureError:
            new_keys = () if kid else self.keys.find_new(kid, algorithm, keys)
            if not new_keys:
                raise
            return self._claims_by_one_of(new_keys, token)

    def _claims_by_one_of(self, keys: Sequence[jwt.PyJWK], token: str) -> dict[str, Any]:
        for key in keys[:-1]:
            with suppress(jwt.InvalidSignatureError):
                return self._claims_by(key, token)
        return self._claims_by(keys[-1], token)

    def _claims_by(self, key: jwt.PyJWK, token: str) -> dict[str, Any]:
        # If no audience is configured, tokens with an audience are refused as well (RFC 7519 4.1.3).
        return self._jwt.verified_claims(token, key, self._settings.audience, self._settings.issuer)


def media_type(typ: str) -> str:
    """A `typ` in comparable form: lower case, and with the prefix `application/`, which may be omitted from values
    without a slash (RFC 7515 4.1.9)."""
    return typ.lower() if "/" in typ else f"application/{typ.lower()}"


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def malformed() -> InvalidToken:
    return InvalidToken("the token can't be read", "malformed")
