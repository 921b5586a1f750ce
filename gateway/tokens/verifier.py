"""Turns a bearer token into a principal, or raises the reason why it is not valid."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from jwt import PyJWTError

from gateway.config import JwtSettings
from gateway.errors import InvalidToken
from gateway.tokens.issuer import Issuer, malformed
from gateway.tokens.principal import Principal, granted_scopes, identity_headers
from gateway.tokens.revocation import fingerprint_of
from gateway.tokens.signature import decode_segment, parse_object, split_token
from gateway.tokens.token_cache import TokenCache

NUMERIC_CLAIMS = ("exp", "nbf", "iat")


class Verifier:
    """Verifies the tokens of its issuers. A verified token is cached until its `exp`, by a keyed hash.

    `clock` gives seconds since 1970."""

    def __init__(self, settings: JwtSettings, issuers: Sequence[Issuer], clock: Callable[[], float]) -> None:
        self._settings = settings
        self._issuers = {issuer.name: issuer for issuer in issuers}
        self._only_issuer = issuers[0] if len(issuers) == 1 else None
        self._clock = clock
        # The hashes are keyed: guessed tokens can't be tested against a leaked hash, and nobody can choose tokens whose
        # hashes collide.
        self._hash_key = secrets.token_bytes(32)
        self._cache = self._empty_cache()

    def principal(self, token: str) -> Principal:
        """The caller that the token identifies, after the token has been verified. Raises InvalidToken,
        KeysUnavailable."""
        if len(token) > self._settings.max_token_bytes:
            raise InvalidToken(f"the token is longer than {self._settings.max_token_bytes} bytes", "too_long")
        digest = blake2b(token.encode("latin-1", "replace"), key=self._hash_key, digest_size=20).digest()
        # `self._cache` is read once: if a key is withdrawn while a token is verified with it, the token gets into the
        # old cache, which is not used any more.
        cache = self._cache
        cached = cache.get(digest)
        if cached is not None:
            if self._clock() < cached.expires_at:
                return cached
            cache.remove(digest)
        principal = self._verify(token)
        cache.add(digest, principal)
        return principal

    def clear_cache(self) -> None:
        """To be called when a key is withdrawn, so that every token is verified again. The cache is replaced and not
        emptied: a token that is being verified at the moment is then added to the old cache."""
        self._cache = self._empty_cache()

    def add_signed_bytes(self, principal: Principal, more_bytes: int) -> None:
        """Adds the memory of an identity token that was stored with a principal to that of the cache."""
        self._cache.add_signed_bytes(principal, more_bytes)

    def _empty_cache(self) -> TokenCache:
        return TokenCache(self._settings.cache_size, self._settings.cache_max_bytes)

    def _verify(self, token: str) -> Principal:
        issuer = self._only_issuer or self._issuer_of(token)
        claims = issuer.claims(token)
        issued_at = self._check_times(claims, issuer.lifetime_seconds)
        if not claims["sub"]:
            raise InvalidToken("the token's sub is empty", "claims")
        # An empty jti identifies no token.
        token_id = claims.get("jti") or None
        try:
            return Principal(
                subject=claims["sub"],
                # Two issuers may have the same subject for different people.
                issuer=issuer.name,
                token_id=token_id,
                issued_at=issued_at,
                scopes=granted_scopes(claims, self._settings.scope_claim),
                expires_at=float(claims["exp"]),
                claims=claims,
                identity_headers=identity_headers(claims, self._settings.claims_to_headers),
                fingerprint=fingerprint_of(token) if token_id is None else None,
            )
        except RecursionError as error:
            # Claims may be nested deeply enough to be parsed but not to be serialized.
            raise malformed() from error

    def _issuer_of(self, token: str) -> Issuer:
        """The issuer that the unverified token names. The keys of this issuer then verify the token, and so the
        name."""
        try:
            name = parse_object(decode_segment(split_token(token.encode())[1]))["iss"]
        except (PyJWTError, ValueError, KeyError) as error:
            raise InvalidToken("the token names no issuer", "issuer") from error
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise InvalidToken("the token's issuer is not accepted", "issuer")
        return issuer

    def _check_times(self, claims: dict[str, Any], lifetime_seconds: float | None) -> float | None:
        """Checks `exp` and `nbf` (RFC 7519 4.1.4, 4.1.5), and that `iat` is not in the future. Returns when the token
        was issued: its `iat`, else computed from its `exp` and the issuer's lifetime, else None. Raises
        InvalidToken."""
        for name in NUMERIC_CLAIMS:
            if name in claims and not is_numeric_date(claims[name]):
                raise InvalidToken(f"the token's {name} is not a number", "claims")
        now, leeway, max_lifetime = self._clock(), self._settings.leeway_seconds, self._settings.max_lifetime_seconds
        if claims["exp"] <= now - leeway:
            raise InvalidToken("the token has expired", "expired")
        if max(claims.get("nbf", 0), claims.get("iat", 0)) > now + leeway:
            raise InvalidToken("the token is not valid yet", "not_yet_valid")
        issued_at: float | None = claims.get("iat")
        if issued_at is None and lifetime_seconds is not None:
            issued_at = claims["exp"] - lifetime_seconds
            if issued_at > now + leeway:
                # The issuer's lifetime_seconds is wrong, and "log out everywhere" would not apply to this token.
                raise InvalidToken("the token is valid for longer than tokens of its issuer may be", "lifetime")
        if max_lifetime is not None and (issued_at is None or claims["exp"] - issued_at > max_lifetime):
            raise InvalidToken("the token is valid for too long", "lifetime")
        return issued_at


def is_numeric_date(value: Any) -> bool:
    """Whether a claim is a JSON number (RFC 7519 2), and not a string, a boolean, NaN or infinity."""
    # The exact type is compared, because bool is a subclass of int.
    return type(value) in (int, float) and abs(value) < 1e15
