"""Keys of issuers and of attackers, and tokens that no library would sign."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.config import JwtSettings
from gateway.tokens.issuer import Issuer
from gateway.tokens.key_source import FixedKeys
from gateway.tokens.keys import KeySet
from gateway.tokens.verifier import Verifier
from tests.support.tokens import SECRET

# A minimal valid header.
HS256 = {"alg": "HS256", "typ": "JWT"}


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> RSAPrivateKey:
    """The RSA key with this number. Keys are cached, as their generation takes long."""
    return generate_private_key(65537, bits)


def public_pem(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def segment(part: Any) -> str:
    """A part of a token in base64url without padding (RFC 7515 2). Bytes are encoded as they are, everything else as
    JSON."""
    octets = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def sealed(header: Any, payload: Any, key: str | bytes = SECRET, digest: str = "sha256") -> str:
    """A token with any header and payload, and a valid HMAC, whatever algorithm the header names."""
    signing_input = f"{segment(header)}.{segment(payload)}"
    secret = key.encode() if isinstance(key, str) else key
    return f"{signing_input}.{segment(hmac.digest(secret, signing_input.encode(), digest))}"


def unsealed(header: Any, payload: Any, signature: bytes = b"") -> str:
    return f"{segment(header)}.{segment(payload)}.{segment(signature)}"


def verifier_with(settings: JwtSettings, keys: KeySet, clock: Callable[[], float]) -> Verifier:
    """A verifier for the tokens of one issuer with these keys."""
    return Verifier(settings, [Issuer(settings, FixedKeys(keys), settings.required_claims)], clock)
