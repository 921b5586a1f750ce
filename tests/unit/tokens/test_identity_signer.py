"""IdentitySigner: accepted keys, the published key set, and the lifetime of tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from gateway.config import IdentitySettings
from gateway.errors import ConfigurationError
from gateway.tokens.identity_signer import IdentitySigner
from gateway.tokens.principal import Principal
from gateway.tokens.token_cache import SIGNED_BYTES
from tests.support.forging import public_pem, rsa_key

NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def private_pem(key: Any, encryption: KeySerializationEncryption | None = None) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return pem


def signer_with(
    path: Path,
    content: bytes,
    clock: Clock | None = None,
    noted: list[int] | None = None,
    **settings: Any,
) -> IdentitySigner:
    path.write_bytes(content)

    def add_signed_bytes(caller: Principal, more_bytes: int) -> None:
        assert caller.signed
        if noted is not None:
            noted.append(more_bytes)

    settings_of_identity = IdentitySettings(sign=True, private_key_file=path, **settings)
    return IdentitySigner(settings_of_identity, ["sub", "user_id"], clock or Clock(), add_signed_bytes)


def test_stored_tokens_are_counted(tmp_path: Path) -> None:
    noted: list[int] = []
    clock, caller = Clock(), principal()
    signer = signer_with(tmp_path / "key.pem", private_pem(ec.generate_private_key(ec.SECP256R1())), clock, noted)
    for services in (["devices"], ["devices", "rules"], ["rules"]):
        for service in services:
            signer.header_for(caller, service)
        stored = sum(SIGNED_BYTES + len(token) for token, _ in caller.signed.values())
        assert sum(noted) == stored
        # The cached token has become too old and is replaced by a new one.
        clock.now += 31


def principal(**changes: Any) -> Principal:
    values: dict[str, Any] = {
        "subject": "ada",
        "issuer": "",
        "token_id": None,
        "issued_at": None,
        "scopes": frozenset(),
        "expires_at": NOW + 3600,
        "claims": {"sub": "ada", "user_id": 7},
        "identity_headers": (),
    }
    return Principal(**(values | changes))


def claims_in(signer: IdentitySigner, field: tuple[str, str]) -> dict[str, Any]:
    key = jwt.PyJWK(signer.key_set["keys"][0])
    # The times in the token are those of the test's clock, so PyJWT must not compare them with the machine's clock.
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims: dict[str, Any] = jwt.decode(field[1], key, audience="devices", options=options)
    return claims


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        (ed448.Ed448PrivateKey.generate(), "EdDSA"),
        ("RSA", "RS256"),
    ],
)
def test_each_kind_of_key_signs_with_its_own_algorithm(tmp_path: Path, key: Any, algorithm: str) -> None:
    # The keys are generated here and not in the parameters, because each test process collects all parameters.
    signer = signer_with(tmp_path / "key.pem", private_pem(rsa_key() if key == "RSA" else key))
    (published,) = signer.key_set["keys"]
    assert published["alg"] == algorithm
    assert not {"d", "p", "q", "dp", "dq", "qi"} & set(published)
    assert claims_in(signer, signer.header_for(principal(), "devices"))["sub"] == "ada"


def test_the_key_id_is_the_thumbprint(tmp_path: Path) -> None:
    # RFC 7638 3.1 shows only the public part of its RSA key, so this test uses the OKP key of RFC 8037 A.3.
    key = ed25519.Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    signer = signer_with(tmp_path / "key.pem", private_pem(key))
    assert signer.key_set["keys"][0]["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (lambda: b"", "contains no private key in PEM, without a password"),
        (lambda: public_pem(rsa_key()), "contains no private key"),
        (lambda: private_pem(rsa_key(), BestAvailableEncryption(b"password")), "without a password"),
        (lambda: private_pem(rsa_key(1, 1024)), "2048 bits or more"),
        (lambda: private_pem(ec.generate_private_key(ec.SECP256K1())), "the curve must be"),
        (lambda: private_pem(dsa.generate_private_key(1024)), "must be an EC, Ed25519 or RSA key"),  # noqa: S505 - refused
    ],
)
def test_an_unusable_key_is_a_configuration_error(tmp_path: Path, content: Callable[[], bytes], error: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        signer_with(tmp_path / "key.pem", content())
    (line,) = caught.value.errors
    assert line.startswith("identity.private_key_file: ")
    assert error in line


def test_also_published(tmp_path: Path) -> None:
    own, following = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    (tmp_path / "next.pem").write_bytes(public_pem(following))
    (tmp_path / "own.pem").write_bytes(public_pem(own))
    files = (tmp_path / "next.pem", tmp_path / "own.pem")
    signer = signer_with(tmp_path / "key.pem", private_pem(own), also_published=files)
    now_used = signer_with(tmp_path / "key.pem", private_pem(following))
    assert [key["kid"] for key in signer.key_set["keys"]][1:] == [now_used.key_set["keys"][0]["kid"]]
    (tmp_path / "next.pem").write_bytes(private_pem(following))
    with pytest.raises(ConfigurationError, match=r"identity\.also_published\[0\]: contains a private key"):
        signer_with(tmp_path / "key.pem", private_pem(own), also_published=files)


def test_tokens_are_renewed_after_half_of_their_lifetime_for_each_service(tmp_path: Path) -> None:
    clock, caller = Clock(), principal()
    key = private_pem(ec.generate_private_key(ec.SECP256R1()))
    signer = signer_with(tmp_path / "key.pem", key, clock, lifetime_seconds=60)
    first = signer.header_for(caller, "devices")
    clock.now += 29
    assert signer.header_for(caller, "devices") == first
    assert signer.header_for(caller, "rules") != first
    clock.now += 1
    second = signer.header_for(caller, "devices")
    assert claims_in(signer, second)["exp"] == clock.now + 60


def test_a_token_is_valid_no_longer_than_the_callers_token(tmp_path: Path) -> None:
    signer = signer_with(tmp_path / "key.pem", private_pem(ec.generate_private_key(ec.SECP256R1())))
    claims = claims_in(signer, signer.header_for(principal(expires_at=NOW + 7), "devices"))
    assert claims["exp"] == NOW + 7
    # A caller's expired token is accepted within the leeway, so its identity token must be valid for at least a moment.
    claims = claims_in(signer, signer.header_for(principal(expires_at=NOW - 3), "devices"))
    assert claims["exp"] == NOW + 1


def test_the_token_names_the_issuer_of_the_callers_token(tmp_path: Path) -> None:
    signer = signer_with(tmp_path / "key.pem", private_pem(ec.generate_private_key(ec.SECP256R1())))
    claims = claims_in(signer, signer.header_for(principal(issuer="https://id.test"), "devices"))
    assert claims["token_iss"] == "https://id.test"
