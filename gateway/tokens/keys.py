"""Verification keys, each bound to the algorithms that the configuration allows for it (RFC 8725 3.1)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
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

EC_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
# By which PyJWT and by which cryptography hashes.
HASHES = {
    "HS256": (HMACAlgorithm.SHA256, SHA256()),
    "HS384": (HMACAlgorithm.SHA384, SHA384()),
    "HS512": (HMACAlgorithm.SHA512, SHA512()),
}
PSS_HASHES = {"PS256": RSAAlgorithm.SHA256, "PS384": RSAAlgorithm.SHA384, "PS512": RSAAlgorithm.SHA512}
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# By the curve's name: two names of one algorithm, the second one fully specified (RFC 9864 2.2).
ED_ALGORITHMS = {"Ed25519": ("EdDSA", "Ed25519"), "Ed448": ("EdDSA", "Ed448")}
MIN_RSA_BITS = 2048  # RFC 7518 3.3

# A key prepared once for each algorithm that it may be used with.
KeySet = Mapping[str, PyJWK]


def load_keys(settings: KeySettings) -> KeySet:
    """Algorithm name → prepared key. Raises ConfigurationError naming the setting."""
    if settings.public_key_file is not None:
        return public_keys(settings.public_key_file, settings.algorithms)
    if settings.secret is None:
        raise ConfigurationError(["jwt.secret: is not set"])
    secret = settings.secret.get_secret_value().encode()
    return {algorithm: secret_key(secret, algorithm) for algorithm in settings.algorithms or ("HS256",)}


def secret_key(secret: bytes, algorithm: str) -> PyJWK:
    octets = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    key = PyJWK({"kty": "oct", "k": octets}, algorithm)
    # PyJWT would find these with each token, and all that a client would hear is that its token can't be read.
    try:
        is_too_short = key.Algorithm.check_key_length(key.Algorithm.prepare_key(key.key)) is not None
    except PyJWTError as error:
        raise ConfigurationError(["jwt.secret: holds a key file or a JWK, which is not a secret"]) from error
    if is_too_short:
        needed = int(algorithm.removeprefix("HS")) // 8
        raise ConfigurationError([f"jwt.secret: must have at least {needed} bytes for {algorithm} (RFC 7518 3.2)"])
    key.Algorithm = CheckedSecret(secret, algorithm)
    return key


class CheckedSecret(HMACAlgorithm):
    """HMAC with one secret, which was checked when it was loaded: PyJWT would look with each token whether it is not
    some other kind of key, and begin the HMAC anew, either of which takes longer than to verify a token."""

    def __init__(self, secret: bytes, algorithm: str) -> None:
        own, begun = HASHES[algorithm]
        super().__init__(own)
        self._begun = HMAC(secret, begun)

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else super().prepare_key(key)

    def sign(self, msg: bytes, key: bytes) -> bytes:  # noqa: ARG002 - it is the one that was begun with
        own = self._begun.copy()
        own.update(msg)
        return own.finalize()


def public_keys(path: Path, allowed: tuple[str, ...] | None) -> KeySet:
    key = read_public_key(path)
    possible: tuple[str, ...]
    default: tuple[str, ...]
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ConfigurationError(
                [f"jwt.public_key_file: an RSA key needs {MIN_RSA_BITS} bits or more (RFC 7518 3.3)"]
            )
        possible, default = RSA_ALGORITHMS, ("RS256",)
        jwk = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, EllipticCurvePublicKey):
        if key.curve.name not in EC_ALGORITHMS:
            raise ConfigurationError(["jwt.public_key_file: the curve must be P-256, P-384 or P-521"])
        possible = default = (EC_ALGORITHMS[key.curve.name],)
        jwk = ECAlgorithm.to_jwk(key, as_dict=True)
    else:
        possible, default = ED_ALGORITHMS["Ed25519" if isinstance(key, Ed25519PublicKey) else "Ed448"], ("EdDSA",)
        jwk = OKPAlgorithm.to_jwk(key, as_dict=True)
    wrong = [name for name in allowed or () if name not in possible]
    if wrong:
        raise ConfigurationError(
            [
                f"jwt.algorithms: {', '.join(wrong)} can't be used with the key in public_key_file "
                f"({', '.join(possible)} can)"
            ]
        )
    return {name: bound_key(jwk, name) for name in allowed or default}


def bound_key(jwk: dict[str, Any], algorithm: str) -> PyJWK:
    """A public key for this algorithm alone. Raises PyJWTError, and whatever its parameters make PyJWT raise."""
    if algorithm in ("Ed25519", "Ed448"):
        # PyJWT knows it by its other name.
        key = PyJWK(jwk, "EdDSA")
        key.algorithm_name = algorithm
        return key
    key = PyJWK(jwk, algorithm)
    if algorithm in PSS_HASHES:
        key.Algorithm = WholePss(PSS_HASHES[algorithm])
    return key


class WholePss(RSAPSSAlgorithm):
    """RSASSA-PSS, whose signatures are as long as the key (RFC 8017 8.1.2): OpenSSL also takes one without its leading
    zeros, and so one token in 256 would have a second spelling."""

    def verify(self, msg: bytes, key: RSAPublicKey, sig: bytes) -> bool:
        return len(sig) == (key.key_size + 7) // 8 and super().verify(msg, key, sig)


def read_public_key(path: Path) -> RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey:
    try:
        pem = path.read_bytes()
        if b"PRIVATE KEY" in pem:
            raise ConfigurationError(["jwt.public_key_file: holds a private key; the gateway must not have it"])
        key = load_pem_x509_certificate(pem).public_key() if b"BEGIN CERT" in pem else load_pem_public_key(pem)
    except OSError as error:
        raise ConfigurationError([f"jwt.public_key_file: can't read {str(path)!r}: {error.strerror}"]) from error
    except (ValueError, UnsupportedAlgorithm, InvalidVersion) as error:
        raise ConfigurationError([f"jwt.public_key_file: {str(path)!r} holds no public key in PEM"]) from error
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey):
        raise ConfigurationError(["jwt.public_key_file: must be an RSA, EC or Ed25519 key"])
    return key
