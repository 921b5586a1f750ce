"""Turns a bearer token into a principal, or says why not."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import Any

import jwt

from gateway.config import JwtSettings
from gateway.errors import InvalidToken
from gateway.tokens.keys import KeySet
from gateway.tokens.principal import Principal, granted_scopes, identity_headers

# What is told to the client, and the word for log and metrics. Order matters: the first that fits is taken.
REASONS: tuple[tuple[type[Exception], str, str], ...] = (
    (jwt.MissingRequiredClaimError, "missing_claim", "the token lacks a claim that is required"),
    (jwt.InvalidIssuerError, "issuer", "the token's issuer is not accepted"),
    (jwt.InvalidAudienceError, "audience", "the token is meant for someone else"),
    (jwt.InvalidSignatureError, "signature", "the token's signature does not match"),
    (jwt.InvalidAlgorithmError, "algorithm", "the token's algorithm is not accepted"),
)
NUMERIC_CLAIMS = ("exp", "nbf", "iat")


class Verifier:
    """Verifies tokens with the configured keys; a verified one is remembered until its `exp`, by a keyed hash.

    `clock` gives seconds since 1970."""

    def __init__(self, settings: JwtSettings, keys: KeySet, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._keys = keys
        # With one algorithm configured there is nothing to choose by the token's header, which PyJWT checks anyway.
        self._only_key = next(iter(keys.values())) if len(keys) == 1 else None
        self._clock = clock
        self._jwt = jwt.PyJWT(
            {
                # Without `exp` a token would be good for ever, so it is always required.
                "require": sorted({"exp", "sub", *settings.required_claims}),
                "verify_aud": settings.audience is not None,
                "enforce_minimum_key_length": True,
                # Checked here by `clock`: PyJWT reads the machine's, and cuts off fractions of a second.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            }
        )
        # One who can read the worker's memory dump or guess its layout must not get tokens out of the cache's keys,
        # and nobody can choose tokens that collide in it.
        self._hash_key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()

    def principal(self, token: str) -> Principal:
        """Who the token says is calling. Raises InvalidToken."""
        if len(token) > self._settings.max_token_bytes:
            raise InvalidToken(f"the token is longer than {self._settings.max_token_bytes} bytes", "too_long")
        digest = blake2b(token.encode("latin-1", "replace"), key=self._hash_key, digest_size=20).digest()
        known = self._verified.get(digest)
        if known is not None:
            if self._clock() < known.expires_at:
                return known
            self._verified.pop(digest, None)
        principal = self._verify(token)
        self._remember(digest, principal)
        return principal

    def _remember(self, digest: bytes, principal: Principal) -> None:
        if not self._settings.cache_size:
            return
        while len(self._verified) >= self._settings.cache_size:
            # In one step: with threads, a loop over it could meet another one's change.
            with suppress(KeyError):
                self._verified.popitem(last=False)
        self._verified[digest] = principal

    def _verify(self, token: str) -> Principal:
        try:
            key = self._only_key or self._keys.get(jwt.get_unverified_header(token).get("alg", ""))
            if key is None:
                raise jwt.InvalidAlgorithmError
            claims = self._jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
            )
            return self._principal_of(claims)
        # Beside its own errors PyJWT lets through what json, base64 and int() raise for hostile input; and claims that
        # could just be read may be nested too deeply to be written.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            for kind, reason, detail in REASONS:
                if isinstance(error, kind):
                    raise InvalidToken(detail, reason) from error
            raise InvalidToken("the token can't be read", "malformed") from error

    def _principal_of(self, claims: dict[str, Any]) -> Principal:
        for name in NUMERIC_CLAIMS:
            if not is_numeric_date(claims.get(name, 0)):
                raise InvalidToken(f"the token's {name} is not a number", "claims")
        self._check_times(claims)
        if not claims["sub"]:
            raise InvalidToken("the token's sub is empty", "claims")
        return Principal(
            subject=claims["sub"],
            scopes=granted_scopes(claims),
            expires_at=float(claims["exp"]),
            claims=claims,
            identity_headers=identity_headers(claims, self._settings.claims_to_headers),
        )

    def _check_times(self, claims: dict[str, Any]) -> None:
        """RFC 7519 4.1.4 and 4.1.5; a token that was issued in the future isn't good yet either."""
        now, leeway = self._clock(), self._settings.leeway_seconds
        if claims["exp"] <= now - leeway:
            raise InvalidToken("the token has expired", "expired")
        if max(claims.get("nbf", 0), claims.get("iat", 0)) > now + leeway:
            raise InvalidToken("the token is not valid yet", "not_yet_valid")


def is_numeric_date(value: Any) -> bool:
    """A JSON number (RFC 7519 2); not a string that looks like one, not true, not NaN or infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
