"""Signed identity: a short-lived token that proves to a service that the gateway admitted this caller."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.config import IdentitySettings
from gateway.errors import ConfigurationError
from gateway.tokens.issuer import malformed
from gateway.tokens.keys import possible_algorithms, public_jwk, read_public_key
from gateway.tokens.principal import Principal, claim_at
from gateway.tokens.token_cache import SIGNED_BYTES

KEY_SETTING = "identity.private_key_file"
IDENTITY_HEADER = "X-Gateway-Identity"
TOKEN_TYPE = "identity+jwt"  # noqa: S105 - a media type (RFC 8725 3.11), so that nobody accepts it as an access token
# The members of a JWK that its thumbprint is computed from (RFC 7638 3.2), sorted.
THUMBPRINT = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
# The claims that the gateway sets. Claims of the caller's token must not overwrite them.
OWN_CLAIMS = frozenset(["iss", "sub", "aud", "exp", "nbf", "iat", "scope", "token_iss"])

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey


class IdentitySigner:
    """Signs identity tokens, each of which tells one service who the caller is. `key_set` has the keys with which
    services verify these tokens (RFC 7517).

    `claims` are the names of claims that are copied from the caller's token. `clock` gives seconds since 1970.
    `add_signed_bytes` is called when a token is stored with a principal, with the number of bytes that this adds.
    Raises ConfigurationError for keys that can't be used."""

    def __init__(
        self,
        settings: IdentitySettings,
        claims: Sequence[str],
        clock: Callable[[], float],
        add_signed_bytes: Callable[[Principal, int], None],
    ) -> None:
        assert settings.private_key_file is not None  # noqa: S101 - one is generated where none is configured
        self._issuer = settings.issuer
        self._lifetime_seconds = settings.lifetime_seconds
        self._claims = [name for name in claims if name not in OWN_CLAIMS]
        self._clock = clock
        self._add_signed_bytes = add_signed_bytes
        self._key = read_private_key(settings.private_key_file, KEY_SETTING)
        own = published(public_jwk(self._key.public_key(), KEY_SETTING))
        self._algorithm = own["alg"]
        self._header = {"kid": own["kid"], "typ": TOKEN_TYPE}
        keys = {own["kid"]: own}
        for index, path in enumerate(settings.also_published):
            setting = f"identity.also_published[{index}]"
            other = published(public_jwk(read_public_key(path, setting), setting))
            keys[other["kid"]] = other
        self.key_set = {"keys": list(keys.values())}

    def header_for(self, principal: Principal, service: str) -> tuple[str, str]:
        """The header field with a token for `service`. The token is valid for half of `lifetime_seconds` to all of it,
        but no longer than the caller's own token. Because signing is slow, the token is stored with the principal and
        used again. Raises InvalidToken."""
        now = self._clock()
        stored = principal.signed.get(service)
        token, renewed_at = stored or ("", 0.0)
        if now >= renewed_at:
            before_bytes = SIGNED_BYTES + len(token) if stored else 0
            issued_at = int(now)
            expires_at = min(issued_at + self._lifetime_seconds, max(math.ceil(principal.expires_at), issued_at + 1))
            payload = self._payload(principal, service, issued_at, expires_at)
            try:
                token = jwt.encode(payload, self._key, self._algorithm, self._header)
            except RecursionError as error:
                # Claims may be nested deeply enough to be parsed but not to be serialized.
                raise malformed() from error
            principal.signed[service] = token, now + (expires_at - now) / 2
            self._add_signed_bytes(principal, SIGNED_BYTES + len(token) - before_bytes)
        return IDENTITY_HEADER, token

    def _payload(self, principal: Principal, service: str, now: int, expires_at: int) -> dict[str, Any]:
        payload = {name: value for name in self._claims if (value := claim_at(principal.claims, name)) is not None}
        payload |= {"iss": self._issuer, "sub": principal.subject, "aud": service, "iat": now, "exp": expires_at}
        if principal.scopes:
            payload["scope"] = " ".join(sorted(principal.scopes))
        if principal.issuer:
            payload["token_iss"] = principal.issuer
        return payload


def read_private_key(path: Path, setting: str) -> PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ConfigurationError([f"{setting}: can't read {str(path)!r}: {error.strerror}"]) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            [f"{setting}: {str(path)!r} contains no private key in PEM, without a password"]
        ) from error
    if not isinstance(key, PrivateKey):
        raise ConfigurationError([f"{setting}: must be an EC, Ed25519 or RSA key"])
    return key


def published(jwk: dict[str, Any]) -> dict[str, Any]:
    """A public JWK as the key set contains it. Its id is its thumbprint (RFC 7638), which is the same on all gateways
    with this key."""
    members = {name: jwk[name] for name in THUMBPRINT[jwk["kty"]]}
    digest = sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    kid = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return {**members, "kid": kid, "alg": possible_algorithms(jwk)[0], "use": "sig"}
