"""Turns a bearer token into a principal, or says why not."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from jwt import PyJWTError

from gateway.config import JwtSettings
from gateway.errors import InvalidToken
from gateway.tokens.issuer import Issuer, malformed
from gateway.tokens.jws import json_object, octets_of, segments_of
from gateway.tokens.principal import Principal, granted_scopes, identity_headers
from gateway.tokens.revocation import fingerprint_of
from gateway.tokens.token_cache import TokenCache

NUMERIC_CLAIMS = ("exp", "nbf", "iat")


class Verifier:
    """Verifies the tokens of its issuers; a verified one is remembered until its `exp`, by a keyed hash.

    `clock` gives seconds since 1970."""

    def __init__(self, settings: JwtSettings, issuers: Sequence[Issuer], clock: Callable[[], float]) -> None:
        self._settings = settings
        self._issuers = {issuer.name: issuer for issuer in issuers}
        self._only_issuer = issuers[0] if len(issuers) == 1 else None
        self._clock = clock
        # One who can read the worker's memory dump or guess its layout must not get tokens out of the cache's keys,
        # and nobody can choose tokens that collide in it.
        self._hash_key = secrets.token_bytes(32)
        self._verified = self._empty_cache()

    def principal(self, token: str) -> Principal:
        """Who the token says is calling. Raises InvalidToken, KeysUnavailable."""
        if len(token) > self._settings.max_token_bytes:
            raise InvalidToken(f"the token is longer than {self._settings.max_token_bytes} bytes", "too_long")
        digest = blake2b(token.encode("latin-1", "replace"), key=self._hash_key, digest_size=20).digest()
        # Where it is remembered is settled before its key is looked up: if the key goes while the token is verified,
        # that is put where nobody looks any more.
        verified = self._verified
        known = verified.get(digest)
        if known is not None:
            if self._clock() < known.expires_at:
                return known
            verified.remove(digest)
        principal = self._verify(token)
        verified.add(digest, principal)
        return principal

    def forget_all(self) -> None:
        """Verifies every token anew, as a key is gone that some of them were verified with. A new cache, not an emptied
        one: those who are verifying still have the old one."""
        self._verified = self._empty_cache()

    def note_signed(self, principal: Principal, more_bytes: int) -> None:
        """Counts identity tokens that are stored with a principal to the memory of the cache."""
        self._verified.note_signed(principal, more_bytes)

    def _empty_cache(self) -> TokenCache:
        return TokenCache(self._settings.cache_size, self._settings.cache_max_bytes)

    def _verify(self, token: str) -> Principal:
        issuer = self._only_issuer or self._issuer_of(token)
        claims = issuer.claims(token)
        issued_at = self._check_times(claims, issuer.lifetime_seconds)
        if not claims["sub"]:
            raise InvalidToken("the token's sub is empty", "claims")
        # An empty id names no token.
        token_id = claims.get("jti") or None
        try:
            return Principal(
                subject=claims["sub"],
                # One issuer's subjects are not another's.
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
            # Claims that could just be read may be nested too deeply to be written.
            raise malformed() from error

    def _issuer_of(self, token: str) -> Issuer:
        """The issuer that the token names, which is bound to be right when it has been verified."""
        try:
            name = json_object(octets_of(segments_of(token.encode())[1]))["iss"]
        except (PyJWTError, ValueError, KeyError) as error:
            raise InvalidToken("the token names no issuer", "issuer") from error
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise InvalidToken("the token's issuer is not accepted", "issuer")
        return issuer

    def _check_times(self, claims: dict[str, Any], lifetime_seconds: float | None) -> float | None:
        """When the token was issued: its `iat`, else by its `exp` and the issuer's lifetime, None where neither says.

        RFC 7519 4.1.4 and 4.1.5; a token that was issued in the future isn't good yet either. Raises InvalidToken."""
        for name in NUMERIC_CLAIMS:
            if name in claims and not is_numeric_date(claims[name]):
                raise InvalidToken(f"the token's {name} is not a number", "claims")
        now, leeway, longest = self._clock(), self._settings.leeway_seconds, self._settings.max_lifetime_seconds
        if claims["exp"] <= now - leeway:
            raise InvalidToken("the token has expired", "expired")
        if max(claims.get("nbf", 0), claims.get("iat", 0)) > now + leeway:
            raise InvalidToken("the token is not valid yet", "not_yet_valid")
        issued_at: float | None = claims.get("iat")
        if issued_at is None and lifetime_seconds is not None:
            issued_at = claims["exp"] - lifetime_seconds
            if issued_at > now + leeway:
                # Taken as new it would outlive "log out everywhere"; the operator learns that the setting is wrong.
                raise InvalidToken("the token is good for longer than its issuer's tokens are said to be", "lifetime")
        if longest is not None and (issued_at is None or claims["exp"] - issued_at > longest):
            raise InvalidToken("the token is good for too long", "lifetime")
        return issued_at


def is_numeric_date(value: Any) -> bool:
    """A JSON number (RFC 7519 2); not a string that looks like one, not true, not NaN or infinite."""
    # As json reads them, so of no other type derived from these.
    return type(value) in (int, float) and abs(value) < 1e15
