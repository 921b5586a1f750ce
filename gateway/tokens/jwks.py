"""Parses a JSON Web Key Set (RFC 7517): verification keys, each bound to the algorithms that it may be used with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWK, PyJWTError

from gateway.tokens.keys import MIN_RSA_BITS, bound_key, possible_algorithms

# At most so many keys are tried for a token: each attempt to verify its signature costs CPU time.
MAX_CANDIDATES = 4
MAX_SHOWN_ID_LENGTH = 80
MAX_SHOWN_NAME_LENGTH = 20


class NoUsableKey(ValueError):
    """The document is a key set without a usable key."""


class KeyRefused(Exception):
    """A key is not used, for the reason in the message. `is_fault` is False for a key that is not meant for signatures:
    such a key is no mistake of the issuer."""

    def __init__(self, reason: str, *, is_fault: bool = True) -> None:
        super().__init__(reason)
        self.is_fault = is_fault


@dataclass(frozen=True)
class JwksKeySet:
    """`keys` has the keys for each id and algorithm; several keys may have the same id, even keys of the same type.
    `refused` has a line for each key that is not used, with the reason and without key material."""

    keys: Mapping[tuple[str | None, str], Sequence[PyJWK]]
    refused: Sequence[str] = ()

    def has_id(self, kid: str | None) -> bool:
        """Whether one of these keys may have signed a token with this kid. A token without a kid may be signed with any
        key (RFC 7515 4.1.4); a token with an empty kid, with a key that has no id."""
        return bool(self.keys) if kid is None else (kid or None) in self._ids

    def candidates(self, kid: str | None, algorithm: str) -> Sequence[PyJWK]:
        """The keys that may have signed a token with this header, at most MAX_CANDIDATES."""
        return self._by_algorithm.get(algorithm, ()) if kid is None else self.keys.get((kid or None, algorithm), ())

    def has_all_of(self, other: JwksKeySet) -> bool:
        """Whether this set contains each key of the other set, with the same id and algorithm."""
        return all(is_among(key, self.keys.get(name, ())) for name, keys in other.keys.items() for key in keys)

    @cached_property
    def _ids(self) -> frozenset[str | None]:
        return frozenset(kid for kid, _ in self.keys)

    @cached_property
    def _by_algorithm(self) -> Mapping[str, Sequence[PyJWK]]:
        """The keys of each algorithm, at most MAX_CANDIDATES. Keys without an id come first: a token without a kid was
        most likely signed with one of them."""
        found: dict[str, list[PyJWK]] = {}
        for (_, algorithm), keys in sorted(self.keys.items(), key=lambda item: item[0][0] is not None):
            known = found.setdefault(algorithm, [])
            known += [key for key in keys if not is_among(key, known)]
        return {algorithm: keys[:MAX_CANDIDATES] for algorithm, keys in found.items()}


def is_among(key: PyJWK, keys: Iterable[PyJWK]) -> bool:
    return any(one.key == key.key for one in keys)


def read_jwks(content: bytes, allowed: Sequence[str]) -> JwksKeySet:
    """The usable keys of a document, without those that are malformed, symmetric, weak or for another use.

    Raises ValueError if the document is not a key set, NoUsableKey if it has no usable key."""
    try:
        entries = json.loads(content)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError("not a JSON Web Key Set") from error
    if not isinstance(entries, list):
        raise ValueError("not a JSON Web Key Set")  # noqa: TRY004 - an error of the document, not of the caller
    found: dict[tuple[str | None, str], list[PyJWK]] = {}
    refused: list[str] = []
    unused: list[str] = []
    for number, entry in enumerate(entries, 1):
        try:
            kid, keys = read_key(entry, allowed)
            for key in keys:
                known = found.setdefault((kid, key.algorithm_name), [])
                if len(known) == MAX_CANDIDATES and not is_among(key, known):
                    raise KeyRefused(f"{MAX_CANDIDATES} other keys have its kid and algorithm")  # noqa: TRY301 - collected below
                if not is_among(key, known):
                    known.append(key)
        except KeyRefused as reason:
            unused.append(f"key {number}{shown_id(entry)} {reason}")
            if reason.is_fault:
                refused.append(unused[-1])
    if not found:
        raise NoUsableKey(f"no usable key in the JSON Web Key Set ({'; '.join(unused) or 'it is empty'})")
    return JwksKeySet(found, refused)


def shown_id(entry: Any) -> str:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return f" (kid {kid[:MAX_SHOWN_ID_LENGTH]!r})" if isinstance(kid, str) else ""


def read_key(entry: Any, allowed: Sequence[str]) -> tuple[str | None, list[PyJWK]]:
    """Returns a key's id (None if it has none), and the key prepared for each algorithm that it may be used with.
    Raises KeyRefused.

    Members that are null count as absent."""
    if not isinstance(entry, dict):
        raise KeyRefused("is not an object")
    given = {name: value for name, value in entry.items() if value is not None}
    kid = given.get("kid", "")
    if not isinstance(kid, str):
        raise KeyRefused("has a kid that is not a string")
    return kid or None, [prepared(given, name) for name in algorithms_of(given, allowed)]


def algorithms_of(given: dict[str, Any], allowed: Sequence[str]) -> list[str]:
    """The algorithms that this key may be used with. They depend on its type, its `alg` and the configuration, never on
    a token.

    Raises KeyRefused if there is none."""
    if given.get("use", "sig") != "sig":
        raise KeyRefused("is not for signatures, by its use", is_fault=False)
    operations = given.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise KeyRefused("does not verify, by its key_ops", is_fault=False)
    kind = given.get("kty")
    if kind == "oct":
        raise KeyRefused("is a secret, which must not be published")
    possible = possible_algorithms(given)
    if not possible:
        raise KeyRefused(f"has a kty {shown(kind)} with crv {shown(given.get('crv'))}, which is not supported")
    own = given.get("alg")
    own_names = [name for name in possible if own in (None, name)]
    if kind == "OKP" and own_names:
        # The two possible names mean the same algorithm (RFC 9864 2.2).
        own_names = [*possible]
    if not own_names:
        raise KeyRefused(f"has the alg {shown(own)}, which is none of {', '.join(possible)}")
    names = [name for name in own_names if name in allowed]
    if not names:
        raise KeyRefused(f"is for {', '.join(own_names)}, which jwt.algorithms does not list")
    return names


def shown(value: Any) -> str:
    """A type, curve or algorithm, as shown in the log. A longer text than a name is not shown, as it may be key
    material in the wrong member."""
    if value is None:
        return "(none)"
    return repr(value) if isinstance(value, str) and len(value) <= MAX_SHOWN_NAME_LENGTH else "(no name)"


def prepared(given: dict[str, Any], algorithm: str) -> PyJWK:
    # Only the public members are used: if a private key was published by mistake, its private part must not be loaded.
    public: dict[str, Any] = {name: given[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in given}
    try:
        key = bound_key(public, algorithm)
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, AttributeError, OverflowError):
        # The cause is left out, as the texts of these exceptions contain the key.
        raise KeyRefused("can't be read: its parameters make no key") from None
    if public["kty"] == "RSA" and key.key.key_size < MIN_RSA_BITS:
        raise KeyRefused(f"has {key.key.key_size} bits, where {MIN_RSA_BITS} are needed (RFC 7518 3.3)")
    return key
