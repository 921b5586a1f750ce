"""Key sets as documents: what is usable, and for which algorithms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens.jwks import read_jwks
from tests.support.issuer import Issuer

ALL = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


@pytest.fixture(scope="module")
def rsa() -> dict[str, Any]:
    issuer = Issuer()
    issuer.close()
    return issuer.add_key("rsa", "RS256")


def read(*keys: Any, allowed: tuple[str, ...] = ALL) -> dict[str | None, list[str]]:
    """Key id → algorithms."""
    found = read_jwks(json.dumps({"keys": keys}).encode(), allowed)
    return {kid: list(algorithms) for kid, algorithms in found.items()}


@pytest.mark.parametrize("algorithm", ALL)
def test_a_key_is_bound_to_its_own_algorithm(algorithm: str) -> None:
    issuer = Issuer()
    issuer.close()
    assert read(issuer.add_key("one", algorithm)) == {"one": [algorithm]}


@pytest.mark.parametrize(
    ("allowed", "expected"), [(("RS256", "PS256", "ES256"), ["RS256", "PS256"]), (("RS512",), ["RS512"])]
)
def test_a_key_without_algorithm_is_bound_to_the_configured_ones_of_its_type(
    rsa: dict[str, Any], allowed: tuple[str, ...], expected: list[str]
) -> None:
    assert read({**rsa, "alg": None}, allowed=allowed) == {"rsa": expected}


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": 1},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "rsa"},
        {"kty": None},
        {"kty": ["RSA"]},
        {"kty": "EC", "crv": ["P-256"]},
        {"kty": "EC", "crv": {}},
        {"kty": "OKP", "crv": []},
        {"kid": 7},
        {"kid": []},
        {"n": "AQAB"},
        {"n": "!"},
        {"n": 5},
        {"e": None},
    ],
)
def test_an_unusable_key_is_left_out(rsa: dict[str, Any], change: dict[str, Any]) -> None:
    other = {**rsa, "kid": "good"}
    assert read({**rsa, **change}, other) == {"good": ["RS256"]}


def test_two_keys_of_one_id_are_both_left_out(rsa: dict[str, Any]) -> None:
    assert read(rsa, rsa, {**rsa, "kid": "good"}) == {"good": ["RS256"]}


def test_a_private_part_is_not_kept(rsa: dict[str, Any]) -> None:
    [[key]] = [
        list(algorithms.values())
        for algorithms in read_jwks(json.dumps({"keys": [{**rsa, "d": "AQAB"}]}).encode(), ALL).values()
    ]
    assert not hasattr(key.key, "private_numbers")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [1, null, "x"]}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="JSON Web Key Set"):
        read_jwks(content, ALL)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kty", "kid", "alg", "n", "e", "crv", "x", "y", "use"]), inner, max_size=6)
    ),
)


KINDS = st.sampled_from(["RSA", "EC", "OKP", "oct"])


@given(st.lists(JSON | st.tuples(KINDS, JSON, JSON).map(lambda k: {"kty": k[0], "crv": k[1], "x": k[2], "n": k[2]})))
def test_any_document_is_a_key_set_or_refused(keys: list[Any]) -> None:
    try:
        read(*keys)
    except ValueError:
        return
