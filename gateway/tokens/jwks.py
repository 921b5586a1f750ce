"""A JSON Web Key Set as verification keys (RFC 7517), each bound to the algorithms that it may be used with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWK, PyJWTError

from gateway.tokens.keys import ED_ALGORITHMS, MIN_RSA_BITS, RSA_ALGORITHMS, bound_key

EC_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
# A token costs a verification for each key that may have signed it.
MAX_CANDIDATES = 4
LONGEST_ID_SHOWN = 80
LONGEST_NAME = 20


class NoUsableKey(ValueError):
    """The document is a key set, and none of its keys verifies anything."""


class Refused(Exception):
    """Why a key is not used; `is_fault` is False for a key that is meant for something else than signatures."""

    def __init__(self, reason: str, *, is_fault: bool = True) -> None:
        super().__init__(reason)
        self.is_fault = is_fault


@dataclass(frozen=True)
class JwksKeySet:
    """`keys` by their id and algorithm: under an id there may be keys of several types, and several of one type.
    `refused` says for each key that is not used why not, without any of its material."""

    keys: Mapping[tuple[str | None, str], Sequence[PyJWK]]
    refused: Sequence[str] = ()

    def has_id(self, kid: str | None) -> bool:
        """Whether a token with this id can be from one of these keys: without an id from any (RFC 7515 4.1.4), with an
        empty one from those that have none."""
        return bool(self.keys) if kid is None else (kid or None) in self._ids

    def candidates(self, kid: str | None, algorithm: str) -> Sequence[PyJWK]:
        """The keys that may have signed a token with this header; few of them."""
        return self._by_algorithm.get(algorithm, ()) if kid is None else self.keys.get((kid or None, algorithm), ())

    def has_all_of(self, other: JwksKeySet) -> bool:
        """Whether each key of the other set is here, too, for the same id and algorithm."""
        return all(is_among(key, self.keys.get(place, ())) for place, keys in other.keys.items() for key in keys)

    @cached_property
    def _ids(self) -> frozenset[str | None]:
        return frozenset(kid for kid, _ in self.keys)

    @cached_property
    def _by_algorithm(self) -> Mapping[str, Sequence[PyJWK]]:
        """Those without an id first, as such a token is most likely from one of them."""
        found: dict[str, list[PyJWK]] = {}
        for (_, algorithm), keys in sorted(self.keys.items(), key=lambda item: item[0][0] is not None):
            known = found.setdefault(algorithm, [])
            known += [key for key in keys if not is_among(key, known)]
        return {algorithm: keys[:MAX_CANDIDATES] for algorithm, keys in found.items()}


def is_among(key: PyJWK, keys: Iterable[PyJWK]) -> bool:
    return any(one.key == key.key for one in keys)


def read_jwks(content: bytes, allowed: Sequence[str]) -> JwksKeySet:
    """The usable keys of a document. What is malformed, symmetric, weak or for another use is left out.

    Raises ValueError where the document is none, NoUsableKey where it has no usable key."""
    try:
        entries = json.loads(content)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError("not a JSON Web Key Set") from error
    if not isinstance(entries, list):
        raise ValueError("not a JSON Web Key Set")  # noqa: TRY004 - a document's fault, not a caller's
    found: dict[tuple[str | None, str], list[PyJWK]] = {}
    refused: list[str] = []
    unused: list[str] = []
    for number, entry in enumerate(entries, 1):
        try:
            kid, keys = read_key(entry, allowed)
            for key in keys:
                known = found.setdefault((kid, key.algorithm_name), [])
                if len(known) == MAX_CANDIDATES and not is_among(key, known):
                    raise Refused(f"{MAX_CANDIDATES} other keys have its kid and algorithm")  # noqa: TRY301 - told below
                if not is_among(key, known):
                    known.append(key)
        except Refused as reason:
            unused.append(f"key {number}{shown_id(entry)} {reason}")
            if reason.is_fault:
                refused.append(unused[-1])
    if not found:
        raise NoUsableKey(f"no usable key in the JSON Web Key Set ({'; '.join(unused) or 'it is empty'})")
    return JwksKeySet(found, refused)


def shown_id(entry: Any) -> str:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return f" (kid {kid[:LONGEST_ID_SHOWN]!r})" if isinstance(kid, str) else ""


def read_key(entry: Any, allowed: Sequence[str]) -> tuple[str | None, list[PyJWK]]:
    """A key's id, and the key for each of its algorithms; never without one. Raises Refused.

    Members that are null are taken as absent, an empty id as none."""
    if not isinstance(entry, dict):
        raise Refused("is no object")
    given = {name: value for name, value in entry.items() if value is not None}
    kid = given.get("kid", "")
    if not isinstance(kid, str):
        raise Refused("has a kid that is no text")
    return kid or None, [prepared(given, name) for name in algorithms_of(given, allowed)]


def algorithms_of(given: dict[str, Any], allowed: Sequence[str]) -> list[str]:
    """The algorithms that this key may verify: by its type, its own `alg`, and the configuration; never by a token.

    Raises Refused where there is none."""
    if given.get("use", "sig") != "sig":
        raise Refused("is not for signatures, by its use", is_fault=False)
    operations = given.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise Refused("does not verify, by its key_ops", is_fault=False)
    kind, curve = given.get("kty"), given.get("crv")
    possible: Sequence[str] = ()
    if kind == "oct":
        raise Refused("is a secret, which must not be published")
    if kind == "RSA":
        possible = RSA_ALGORITHMS
    # Someone else wrote this: what stands for a name may be a list, which can't be looked up.
    elif kind == "EC" and isinstance(curve, str) and curve in EC_ALGORITHMS:
        possible = (EC_ALGORITHMS[curve],)
    elif kind == "OKP" and isinstance(curve, str):
        possible = ED_ALGORITHMS.get(curve, ())
    if not possible:
        raise Refused(f"has a kty {shown(kind)} with crv {shown(curve)}, which is not supported")
    own = given.get("alg")
    own_names = [name for name in possible if own in (None, name)]
    if kind == "OKP" and own_names:
        # Both are names of the same algorithm (RFC 9864 2.2).
        own_names = [*possible]
    if not own_names:
        raise Refused(f"has the alg {shown(own)}, which is none of {', '.join(possible)}")
    names = [name for name in own_names if name in allowed]
    if not names:
        raise Refused(f"is for {', '.join(own_names)}, which jwt.algorithms does not list")
    return names


def shown(value: Any) -> str:
    """The name of a type, curve or algorithm. What is longer than those are may be a key in the wrong place."""
    if value is None:
        return "(none)"
    return repr(value) if isinstance(value, str) and len(value) <= LONGEST_NAME else "(no name)"


def prepared(given: dict[str, Any], algorithm: str) -> PyJWK:
    # A private part that someone published by mistake must not get into the worker.
    public: dict[str, Any] = {name: given[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in given}
    try:
        key = bound_key(public, algorithm)
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, AttributeError, OverflowError):
        # Their texts quote the key.
        raise Refused("can't be read: its parameters make no key") from None
    if public["kty"] == "RSA" and key.key.key_size < MIN_RSA_BITS:
        raise Refused(f"has {key.key.key_size} bits, where {MIN_RSA_BITS} are needed (RFC 7518 3.3)")
    return key
