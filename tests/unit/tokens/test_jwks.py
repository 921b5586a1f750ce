"""read_jwks: which keys of a document are usable, and for which algorithms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from gateway.tokens.jwks import MAX_CANDIDATES, JwksKeySet, NoUsableKey, read_jwks
from tests.support.forging import rsa_key
from tests.support.issuer import Issuer

ALL = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448")
SIGNING = ALL[:-2]


@pytest.fixture(scope="module")
def rsa() -> dict[str, Any]:
    issuer = Issuer()
    issuer.close()
    return issuer.add_key("rsa", "RS256")


def read(*keys: Any, allowed: tuple[str, ...] = ALL) -> dict[str | None, list[str]]:
    """The algorithms of the usable keys, by key id."""
    found: dict[str | None, list[str]] = {}
    for kid, algorithm in read_set(*keys, allowed=allowed).keys:
        found.setdefault(kid, []).append(algorithm)
    return found


def read_set(*keys: Any, allowed: tuple[str, ...] = ALL) -> JwksKeySet:
    return read_jwks(json.dumps({"keys": keys}).encode(), allowed)


@pytest.mark.parametrize("algorithm", SIGNING)
def test_a_key_is_bound_to_its_own_algorithm(algorithm: str) -> None:
    issuer = Issuer()
    issuer.close()
    names = ["EdDSA", "Ed25519"] if algorithm == "EdDSA" else [algorithm]
    assert read(issuer.add_key("one", algorithm)) == {"one": names}


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
def test_an_unusable_key_is_not_used(rsa: dict[str, Any], change: dict[str, Any]) -> None:
    other = {**rsa, "kid": "valid"}
    assert read({**rsa, **change}, other) == {"valid": ["RS256"]}


@pytest.fixture(scope="module")
def others() -> list[dict[str, Any]]:
    """Keys of other types with the same id, and another RSA key with this id."""
    issuer = Issuer()
    issuer.close()
    return [issuer.add_key("rsa", algorithm) for algorithm in ("ES256", "EdDSA", "RS256")]


def test_keys_of_several_types_may_have_one_id(rsa: dict[str, Any], others: list[dict[str, Any]]) -> None:
    found = read_set(rsa, *others[:2])
    assert list(found.keys) == [("rsa", name) for name in ("RS256", "ES256", "EdDSA", "Ed25519")]
    assert {len(keys) for keys in found.keys.values()} == {1}


def test_a_key_may_have_several_algorithms(rsa: dict[str, Any]) -> None:
    found = read_set(rsa, {**rsa, "alg": "PS256"}, {**rsa, "alg": None}, allowed=("RS256", "PS256"))
    assert {place: len(keys) for place, keys in found.keys.items()} == {("rsa", "RS256"): 1, ("rsa", "PS256"): 1}


def test_the_same_entry_twice_is_one_key(rsa: dict[str, Any]) -> None:
    for more in ({}, {"use": None}, {"x5t": "other"}, {"n": rsa["n"], "e": rsa["e"]}):
        assert len(read_set(rsa, {**rsa, **more}).candidates("rsa", "RS256")) == 1


def test_keys_with_the_same_id_are_tried_in_order(rsa: dict[str, Any], others: list[dict[str, Any]]) -> None:
    numbers = [key.key.public_numbers().n for key in read_set(rsa, others[2]).candidates("rsa", "RS256")]
    assert len(set(numbers)) == 2
    assert [key.key.public_numbers().n for key in read_set(others[2], rsa).candidates("rsa", "RS256")] == numbers[::-1]


def test_null_members_and_empty_ids_count_as_absent(rsa: dict[str, Any]) -> None:
    nulls = {**rsa, "use": None, "key_ops": None, "crv": None, "kid": None}
    assert read(nulls) == read({**rsa, "kid": ""}) == {None: ["RS256"]}
    found = read_set({**rsa, "kid": ""})
    assert [len(found.candidates(kid, "RS256")) for kid in (None, "", "rsa")] == [1, 1, 0]
    assert [found.has_id(kid) for kid in (None, "", "rsa")] == [True, True, False]
    # An empty kid does not match keys that have an id.
    assert not read_set(rsa).has_id("")
    assert read_set(rsa).candidates("", "RS256") == ()


def test_keys_without_id_are_tried_first_for_tokens_without_kid(
    rsa: dict[str, Any], others: list[dict[str, Any]]
) -> None:
    found = read_set(rsa, {**others[2], "kid": None})
    first, second = found.candidates(None, "RS256")
    assert [first] == list(found.keys[None, "RS256"])
    assert [second] == list(found.candidates("rsa", "RS256"))
    # A key that is listed with an id and without one is tried once.
    assert len(read_set(rsa, {**rsa, "kid": None}).candidates(None, "RS256")) == 1
    assert found.candidates(None, "ES256") == ()
    assert found.candidates("other", "RS256") == ()


def test_at_most_max_candidates_are_tried() -> None:
    issuer = Issuer()
    issuer.close()
    published = [issuer.add_key("one", "ES256") for _ in range(MAX_CANDIDATES + 2)]
    found = read_set(*published, published[0])
    assert len(found.candidates("one", "ES256")) == MAX_CANDIDATES
    assert found.refused == [
        f"key {number} (kid 'one') {MAX_CANDIDATES} other keys have its kid and algorithm"
        for number in (MAX_CANDIDATES + 1, MAX_CANDIDATES + 2)
    ]
    apart = [{**key, "kid": str(number)} for number, key in enumerate(published)]
    assert len(read_set(*apart).candidates(None, "ES256")) == MAX_CANDIDATES
    assert read_set(*apart).refused == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"alg": "HS256"}, "has the alg 'HS256', which is none of RS256, "),
        ({"alg": 1}, "has the alg (no name), which is none of RS256, "),
        ({"alg": []}, "has the alg (no name), which is none of RS256, "),
        ({"alg": "PS512"}, "is for PS512, which jwt.algorithms does not list"),
        ({"kty": "oct", "k": "AAAA"}, "is a secret, which must not be published"),
        ({"kty": "X\ny"}, "has a kty 'X\\ny' with crv (none), which is not supported"),
        ({"kty": "EC", "crv": "P-192"}, "has a kty 'EC' with crv 'P-192', which is not supported"),
        ({"kty": "x" * 43}, "has a kty (no name) with crv (none), which is not supported"),
        ({"kid": 7}, "has a kid that is not a string"),
        ({"n": "short"}, "has 1024 bits, where 2048 are needed (RFC 7518 3.3)"),
        ({"n": "!"}, "can't be read: its parameters make no key"),
        ({"n": None}, "can't be read: its parameters make no key"),
    ],
)
def test_a_refused_key_is_reported_with_the_reason_and_without_its_material(
    rsa: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    bad = {**rsa, "kid": "bad", **change}
    if change == {"n": "short"}:
        bad["n"] = RSAAlgorithm.to_jwk(rsa_key(bits=1024).public_key(), as_dict=True)["n"]
    found = read_set({**rsa, "kid": "valid"}, bad, allowed=("RS256", "ES256"))
    (line,) = found.refused
    assert line.startswith("key 2 " + ("(kid 'bad') " if "kid" not in change else "") + reason)
    assert "\n" not in line
    assert rsa["n"][:20] not in line
    with pytest.raises(NoUsableKey) as caught:
        read_set(bad, allowed=("RS256", "ES256"))
    assert reason in str(caught.value)
    assert rsa["n"][:20] not in str(caught.value)


def test_a_key_for_another_use_is_reported_only_if_there_is_no_usable_key(rsa: dict[str, Any]) -> None:
    other = {**rsa, "kid": "enc", "use": "enc"}
    assert read_set(rsa, other).refused == []
    with pytest.raises(NoUsableKey, match=r"key 1 .kid 'enc'. is not for signatures, by its use"):
        read_set(other)
    with pytest.raises(NoUsableKey, match="it is empty"):
        read_set()


def test_the_private_part_of_a_key_is_dropped(rsa: dict[str, Any]) -> None:
    (key,) = read_set({**rsa, "d": "AQAB"}).candidates("rsa", "RS256")
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
def test_another_document_is_refused(content: bytes) -> None:
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
