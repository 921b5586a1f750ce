"""Which key files and secrets are accepted, and for which algorithms; all others are configuration errors."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, x25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import JwtSettings
from gateway.errors import ConfigurationError, InvalidToken
from gateway.tokens.keys import KeySet, load_keys
from tests.support.forging import public_pem, rsa_key, verifier_with
from tests.support.tokens import SECRET

NOW = 1_000_000_000.0
CLAIMS = {"sub": "ada", "exp": NOW + 60}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "issuer.pem"


@cache
def key(kind: str) -> Any:
    """A private key of this kind, generated once."""
    makers: dict[str, Callable[[], PrivateKeyTypes]] = {
        "RSA": rsa_key,
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "P-224": lambda: ec.generate_private_key(ec.SECP224R1()),
        "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
        "Ed448": ed448.Ed448PrivateKey.generate,
        "X25519": x25519.X25519PrivateKey.generate,
        "DSA": lambda: dsa.generate_private_key(1024),  # noqa: S505 - refused because of its kind
    }
    return makers[kind]()


def private_pem(kind: str, layout: PrivateFormat, password: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    octets: bytes = key(kind).private_bytes(Encoding.PEM, layout, encryption)
    return octets


def certificate(kind: str, encoding: Encoding = Encoding.PEM) -> bytes:
    """A certificate for the key. It is expired, which must not matter: the gateway trusts the file, not the
    certificate's issuer."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    start = datetime(2001, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key(kind).public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
    )
    signer: CertificateIssuerPrivateKeyTypes = key("P-256")
    return builder.sign(signer, SHA256()).public_bytes(encoding)


def in_pem(octets: bytes, label: str) -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + base64.encodebytes(octets) + f"-----END {label}-----\n".encode()


def loaded(file: Path, *algorithms: str) -> KeySet:
    return load_keys(JwtSettings.model_validate({"public_key_file": file, "algorithms": algorithms or None}))


def error(file: Path, *algorithms: str) -> str:
    """The error line about the file, which must be the only error."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(file, *algorithms)
    (line,) = caught.value.errors
    return line


def verifies(keys: KeySet, kind: str, algorithm: str) -> bool:
    """Whether a token that the key has signed with the algorithm is accepted."""
    verifier = verifier_with(JwtSettings(), keys, lambda: NOW)
    try:
        return verifier.principal(jwt.encode(CLAIMS, key(kind), algorithm)).subject == "ada"
    except InvalidToken:
        return False


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("RSA", "RS256"),
        ("P-256", "ES256"),
        ("P-384", "ES384"),
        ("P-521", "ES512"),
        ("Ed25519", "EdDSA"),
        ("Ed448", "EdDSA"),
    ],
)
@pytest.mark.parametrize("write", [lambda kind: public_pem(key(kind)), certificate], ids=["key", "certificate"])
def test_the_default_algorithm_of_each_kind_of_key(
    file: Path, write: Callable[[str], bytes], kind: str, algorithm: str
) -> None:
    file.write_bytes(write(kind))
    keys = loaded(file)
    assert list(keys) == [algorithm]
    assert verifies(keys, kind, algorithm)
    assert loaded(file, algorithm).keys() == keys.keys()


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_an_rsa_key_is_used_with_the_configured_algorithms_only(file: Path, algorithm: str) -> None:
    file.write_bytes(public_pem(key("RSA")))
    keys = loaded(file, algorithm)
    accepted = {name for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512") if verifies(keys, "RSA", name)}
    assert accepted == {algorithm}
    two = loaded(file, algorithm, "RS256")
    assert verifies(two, "RSA", "RS256")
    assert verifies(two, "RSA", algorithm)


def test_an_rsa_key_in_pkcs1_format(file: Path) -> None:
    file.write_bytes(key("RSA").public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1))
    assert verifies(loaded(file), "RSA", "RS256")


def test_text_around_the_key_and_windows_line_ends_are_accepted(file: Path) -> None:
    for kind, octets in (("RSA", public_pem(key("RSA"))), ("P-256", certificate("P-256"))):
        file.write_bytes(b"issuer: id.example\n\n" + octets + b"\n")
        assert verifies(loaded(file), kind, {"RSA": "RS256", "P-256": "ES256"}[kind])
        file.write_bytes(octets.replace(b"\n", b"\r\n"))
        assert loaded(file)


@pytest.mark.parametrize(
    ("kind", "algorithms", "wrong"),
    [
        ("RSA", ["ES256"], "ES256"),
        ("RSA", ["RS256", "EdDSA"], "EdDSA"),
        ("P-256", ["ES384"], "ES384"),
        ("P-256", ["ES256", "RS256"], "RS256"),
        ("P-384", ["ES256"], "ES256"),
        ("P-521", ["ES384", "ES256"], "ES384, ES256"),
        ("Ed25519", ["ES256"], "ES256"),
        ("Ed25519", ["EdDSA", "RS256", "PS256"], "RS256, PS256"),
    ],
)
def test_an_algorithm_of_another_kind_of_key_is_refused(
    file: Path, kind: str, algorithms: list[str], wrong: str
) -> None:
    file.write_bytes(public_pem(key(kind)))
    assert error(file, *algorithms).startswith(f"jwt.algorithms: {wrong} can't be used with the key in ")


@pytest.mark.parametrize("algorithms", [["HS256"], ["RS256", "HS256"]])
def test_a_public_key_is_refused_for_hs_algorithms(file: Path, algorithms: list[str]) -> None:
    file.write_bytes(public_pem(key("RSA")))
    with pytest.raises(ValueError, match="algorithms: HS"):
        loaded(file, *algorithms)


@pytest.mark.parametrize(
    ("kind", "layout", "password"),
    [
        ("RSA", PrivateFormat.PKCS8, b""),
        ("RSA", PrivateFormat.PKCS8, b"password"),
        ("RSA", PrivateFormat.TraditionalOpenSSL, b""),
        ("RSA", PrivateFormat.OpenSSH, b""),
        ("P-256", PrivateFormat.PKCS8, b""),
        ("P-256", PrivateFormat.TraditionalOpenSSL, b""),
        ("Ed25519", PrivateFormat.PKCS8, b""),
    ],
)
def test_a_private_key_is_refused(file: Path, kind: str, layout: PrivateFormat, password: bytes) -> None:
    private, public = private_pem(kind, layout, password), public_pem(key(kind))
    for octets in (private, public + private, private + public, certificate(kind) + private):
        file.write_bytes(octets)
        line = error(file)
        assert line.startswith("jwt.public_key_file: contains a private key")
        assert private.splitlines()[1].decode() not in line


@pytest.mark.parametrize("bits", [1024, 2040])
def test_a_weak_rsa_key_is_refused(file: Path, bits: int) -> None:
    file.write_bytes(public_pem(rsa_key(bits=bits)))
    assert error(file) == "jwt.public_key_file: an RSA key needs 2048 bits or more (RFC 7518 3.3)"


@pytest.mark.parametrize("kind", ["P-224", "secp256k1"])
def test_an_unsupported_curve_is_refused(file: Path, kind: str) -> None:
    file.write_bytes(public_pem(key(kind)))
    assert error(file).startswith("jwt.public_key_file: the curve must be P-256, P-384 or P-521")


@pytest.mark.parametrize("kind", ["DSA", "X25519"])
def test_an_unsupported_kind_of_key_is_refused(file: Path, kind: str) -> None:
    file.write_bytes(public_pem(key(kind)))
    assert error(file) == "jwt.public_key_file: must be an RSA, EC or Ed25519 key"
    file.write_bytes(certificate(kind))
    assert error(file) == "jwt.public_key_file: must be an RSA, EC or Ed25519 key"


def garbage() -> dict[str, bytes]:
    der = key("RSA").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "nothing": b"",
        "text": b"my key\n",
        "zeros": bytes(4096),
        "all bytes": bytes(range(256)),
        "a secret": SECRET.encode(),
        "der": der,
        "ssh": key("RSA").public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "no content": in_pem(b"", "PUBLIC KEY"),
        "cut off": public_pem(key("RSA"))[:-60],
        "half of it": in_pem(der[:100], "PUBLIC KEY"),
        "key as certificate": in_pem(der, "CERTIFICATE"),
        "certificate as key": in_pem(certificate("RSA", Encoding.DER), "PUBLIC KEY"),
        "certificate request": in_pem(der, "CERTIFICATE REQUEST"),
        "json": b'{"keys": []}',
    }


@pytest.mark.parametrize("what", garbage())
def test_a_file_without_public_key_is_refused(file: Path, what: str) -> None:
    file.write_bytes(garbage()[what])
    assert error(file) == f"jwt.public_key_file: {str(file)!r} contains no public key in PEM"


def test_a_file_that_cannot_be_read_is_refused(file: Path) -> None:
    assert error(file) == f"jwt.public_key_file: can't read {str(file)!r}: No such file or directory"
    assert error(file.parent).startswith(f"jwt.public_key_file: can't read {str(file.parent)!r}: ")
    assert error(Path("a\0b")).startswith("jwt.public_key_file: ")


@pytest.mark.parametrize("version", [1, 3, 5, 255])
def test_a_certificate_of_an_unknown_version_is_refused(file: Path, version: int) -> None:
    octets = certificate("P-256", Encoding.DER)
    assert octets.count(b"\xa0\x03\x02\x01\x02") == 1
    file.write_bytes(in_pem(octets.replace(b"\xa0\x03\x02\x01\x02", bytes([0xA0, 3, 2, 1, version])), "CERTIFICATE"))
    assert error(file) == f"jwt.public_key_file: {str(file)!r} contains no public key in PEM"


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([("RSA", "key"), ("P-256", "key"), ("Ed25519", "key"), ("P-256", "certificate")]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_file_is_a_configuration_error(
    file: Path, which: tuple[str, str], damage: list[tuple[float, int]]
) -> None:
    kind, container = which
    if container == "certificate":
        octets, label = bytearray(certificate(kind, Encoding.DER)), "CERTIFICATE"
    else:
        octets, label = bytearray(der_of(kind)), "PUBLIC KEY"
    for place, value in damage:
        octets[int(place * len(octets))] = value
    file.write_bytes(in_pem(bytes(octets), label))
    try:
        errors = [] if loaded(file) else ["no key"]
    except ConfigurationError as error:
        errors = error.errors
    assert all(line.startswith("jwt.") for line in errors)


def der_of(kind: str) -> bytes:
    octets: bytes = key(kind).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return octets


# --- secrets


def secret_keys(secret: str, *algorithms: str) -> KeySet:
    return load_keys(JwtSettings.model_validate({"secret": secret, "algorithms": algorithms or None}))


def test_the_default_algorithm_of_a_secret_is_hs256() -> None:
    assert list(secret_keys(SECRET)) == ["HS256"]


def test_no_key_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_keys(JwtSettings())
    assert caught.value.errors == ["jwt.secret: is not set"]


@pytest.mark.parametrize(("algorithm", "needed"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_must_be_as_long_as_its_algorithm_needs(algorithm: str, needed: int) -> None:
    secret = "0123456789abcdef" * 4
    signed = jwt.encode(CLAIMS, secret[:needed], algorithm)
    accepted = verifier_with(JwtSettings(), secret_keys(secret[:needed], algorithm), lambda: NOW).principal(signed)
    assert accepted.subject == "ada"
    if needed > 32:
        with pytest.raises(ConfigurationError) as caught:
            secret_keys(secret[: needed - 1], "HS256", algorithm)
        (line,) = caught.value.errors
        assert line == f"jwt.secret: must have at least {needed} bytes for {algorithm} (RFC 7518 3.2)"


def test_the_length_of_a_secret_is_counted_in_bytes() -> None:
    assert list(secret_keys("é" * 24, "HS384")) == ["HS384"]


@pytest.mark.parametrize("secret", ["\0" * 32, " " * 32, "é" * 32, "-_+/=" * 8, "🔑" * 8, "\n" * 33])
def test_a_secret_is_encoded_in_utf_8(secret: str) -> None:
    signed = jwt.encode(CLAIMS, secret.encode(), "HS256")
    assert verifier_with(JwtSettings(), secret_keys(secret), lambda: NOW).principal(signed).subject == "ada"


def test_a_key_file_or_jwk_is_refused_as_secret() -> None:
    """The operator meant another setting. Moreover, a public key must not be used as a secret."""
    for octets in (
        public_pem(key("RSA")),
        certificate("RSA"),
        private_pem("P-256", PrivateFormat.PKCS8),
        key("RSA").public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        b'{"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}',
    ):
        with pytest.raises(ConfigurationError) as caught:
            secret_keys(octets.decode())
        assert caught.value.errors == ["jwt.secret: is a key file or a JWK, which is not a secret"]


def test_a_secret_is_refused_for_algorithms_of_key_pairs() -> None:
    for algorithm in ("RS256", "ES256", "EdDSA"):
        with pytest.raises(ValueError, match="only HS"):
            secret_keys(SECRET, algorithm)
    with pytest.raises(ValueError, match="algorithms"):
        secret_keys(SECRET, "none")
