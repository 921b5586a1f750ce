"""Verification keys, each bound to the algorithms that the configuration allows for it (RFC 8725 3.1)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import InvalidVersion, load_pem_x509_certificate
from jwt import PyJWK, PyJWTError
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

from gateway.config import KeySettings
from gateway.errors import ConfigurationError

# The hash of each HMAC algorithm, as an object of PyJWT and as one of cryptography.
HASHES = {
    "HS256": (HMACAlgorithm.SHA256, SHA256()),
    "HS384": (HMACAlgorithm.SHA384, SHA384()),
    "HS512": (HMACAlgorithm.SHA512, SHA512()),
}
PSS_HASHES = {"PS256": RSAAlgorithm.SHA256, "PS384": RSAAlgorithm.SHA384, "PS512": RSAAlgorithm.SHA512}
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# The algorithms of a JWK, by its `kty` and `crv`. The algorithm of an OKP key has two names; the second name is fully
# specified (RFC 9864 2.2).
CURVE_ALGORITHMS: dict[tuple[str, str], tuple[str, ...]] = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
    ("OKP", "Ed448"): ("EdDSA", "Ed448"),
}
MIN_RSA_BITS = 2048  # RFC 7518 3.3

# For each algorithm: the key, prepared for this algorithm.
KeySet = Mapping[str, PyJWK]
PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


def load_keys(settings: KeySettings) -> KeySet:
    """The keys of a secret or a public-key file. Raises ConfigurationError with the name of the setting."""
    if settings.public_key_file is not None:
        return public_keys(settings.public_key_file, settings.algorithms)
    if settings.secret is None:
        raise ConfigurationError(["jwt.secret: is not set"])
    secret = settings.secret.get_secret_value().encode()
    return {algorithm: secret_key(secret, algorithm) for algorithm in settings.algorithms or ("HS256",)}


def secret_key(secret: bytes, algorithm: str) -> PyJWK:
    octets = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    key = PyJWK({"kty": "oct", "k": octets}, algorithm)
    # PyJWT checks the secret only when it verifies a token. It is checked here already; otherwise clients would get the
    # blame for an invalid secret: "the token can't be read".
    try:
        is_too_short = key.Algorithm.check_key_length(key.Algorithm.prepare_key(key.key)) is not None
    except PyJWTError as error:
        raise ConfigurationError(["jwt.secret: is a key file or a JWK, which is not a secret"]) from error
    if is_too_short:
        needed = int(algorithm.removeprefix("HS")) // 8
        raise ConfigurationError([f"jwt.secret: must have at least {needed} bytes for {algorithm} (RFC 7518 3.2)"])
    key.Algorithm = CheckedSecret(secret, algorithm)
    return key


class CheckedSecret(HMACAlgorithm):
    """HMAC with one secret, which is checked and hashed once. For each token, PyJWT would check that the secret is not
    another kind of key, and hash it again; each of the two takes longer than verifying a token."""

    def __init__(self, secret: bytes, algorithm: str) -> None:
        pyjwt_hash, hmac_hash = HASHES[algorithm]
        super().__init__(pyjwt_hash)
        self._hmac = HMAC(secret, hmac_hash)

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else super().prepare_key(key)

    def sign(self, msg: bytes, key: bytes) -> bytes:  # noqa: ARG002 - always the secret of `__init__`
        hmac = self._hmac.copy()
        hmac.update(msg)
        return hmac.finalize()


def public_keys(path: Path, allowed: tuple[str, ...] | None) -> KeySet:
    jwk = public_jwk(read_public_key(path, "jwt.public_key_file"), "jwt.public_key_file")
    possible = possible_algorithms(jwk)
    wrong = [name for name in allowed or () if name not in possible]
    if wrong:
        raise ConfigurationError(
            [
                f"jwt.algorithms: {', '.join(wrong)} can't be used with the key in public_key_file "
                f"({', '.join(possible)} can)"
            ]
        )
    return {name: bound_key(jwk, name) for name in allowed or possible[:1]}


def possible_algorithms(jwk: Mapping[str, Any]) -> tuple[str, ...]:
    """The algorithms of keys of this type and curve, the default first; empty if they are not supported."""
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if kind == "RSA":
        return RSA_ALGORITHMS
    # In a published key set, the values may be of any type; a list is not hashable.
    return CURVE_ALGORITHMS.get((kind, curve), ()) if isinstance(kind, str) and isinstance(curve, str) else ()


def public_jwk(key: PublicKey, setting: str) -> dict[str, Any]:
    """A public key as a JWK. Raises ConfigurationError with the name of the setting if the key is too weak or its curve
    is not supported."""
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ConfigurationError([f"{setting}: an RSA key needs {MIN_RSA_BITS} bits or more (RFC 7518 3.3)"])
        return RSAAlgorithm.to_jwk(key, as_dict=True)
    if isinstance(key, EllipticCurvePublicKey):
        with suppress(PyJWTError):
            jwk = ECAlgorithm.to_jwk(key, as_dict=True)
            if possible_algorithms(jwk):
                return jwk
        raise ConfigurationError([f"{setting}: the curve must be P-256, P-384 or P-521"])
    return OKPAlgorithm.to_jwk(key, as_dict=True)


def bound_key(jwk: dict[str, Any], algorithm: str) -> PyJWK:
    """A public key for this algorithm only. Invalid parameters raise PyJWTError and other exceptions of PyJWT."""
    if algorithm in ("Ed25519", "Ed448"):
        # PyJWT knows only the name EdDSA.
        key = PyJWK(jwk, "EdDSA")
        key.algorithm_name = algorithm
        return key
    key = PyJWK(jwk, algorithm)
    if algorithm in PSS_HASHES:
        key.Algorithm = StrictPss(PSS_HASHES[algorithm])
    return key


class StrictPss(RSAPSSAlgorithm):
    """RSASSA-PSS that accepts only signatures as long as the key (RFC 8017 8.1.2). OpenSSL also accepts one without its
    leading zeros, so that one token in 256 would have a second spelling."""

    def verify(self, msg: bytes, key: RSAPublicKey, sig: bytes) -> bool:
        return len(sig) == (key.key_size + 7) // 8 and super().verify(msg, key, sig)


def read_public_key(path: Path, setting: str) -> PublicKey:
    """Reads a public key from a PEM file that contains the key or a certificate. Raises ConfigurationError with the
    name of the setting."""
    try:
        pem = path.read_bytes()
        if b"PRIVATE KEY" in pem:
            raise ConfigurationError([f"{setting}: contains a private key, which the gateway must not have"])
        key = load_pem_x509_certificate(pem).public_key() if b"BEGIN CERT" in pem else load_pem_public_key(pem)
    except OSError as error:
        raise ConfigurationError([f"{setting}: can't read {str(path)!r}: {error.strerror}"]) from error
    except (ValueError, UnsupportedAlgorithm, InvalidVersion) as error:
        raise ConfigurationError([f"{setting}: {str(path)!r} contains no public key in PEM"]) from error
    if not isinstance(key, PublicKey):
        raise ConfigurationError([f"{setting}: must be an RSA, EC or Ed25519 key"])
    return key
