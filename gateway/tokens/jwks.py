"""A JSON Web Key Set as verification keys (RFC 7517), each bound to the algorithms that it may be used with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWK, PyJWTError

MIN_RSA_BITS = 2048  # RFC 7518 3.3
EC_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
OKP_CURVES = ("Ed25519", "Ed448")

# Key id → algorithm → prepared key. Keys without an id are under None, as far as there is but one.
JwksKeySet = Mapping[str | None, Mapping[str, PyJWK]]


def read_jwks(content: bytes, allowed: Sequence[str]) -> JwksKeySet:
    """The usable keys of a document. What is malformed, symmetric, weak or for another use is left out.

    Raises ValueError where the document is none, or has no usable key."""
    try:
        entries = json.loads(content)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError("not a JSON Web Key Set") from error
    if not isinstance(entries, list):
        raise ValueError("not a JSON Web Key Set")  # noqa: TRY004 - a document's fault, not a caller's
    found: dict[str | None, dict[str, PyJWK]] = {}
    ambiguous = set[str | None]()
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        kid = entry.get("kid")
        keys = prepared(entry, algorithms_of(entry, allowed))
        if not keys or not (kid is None or isinstance(kid, str)):
            continue
        if kid in found:
            # Which of the two a token means can't be told.
            ambiguous.add(kid)
        found[kid] = keys
    for kid in ambiguous:
        del found[kid]
    if not found:
        raise ValueError("no usable key in the JSON Web Key Set")
    return found


def algorithms_of(entry: dict[str, Any], allowed: Sequence[str]) -> list[str]:
    """The algorithms that this key may verify: by its type, its own `alg`, and the configuration; never by a token."""
    if entry.get("use", "sig") != "sig":
        return []
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return []
    kind, curve = entry.get("kty"), entry.get("crv")
    possible: Sequence[str] = ()
    if kind == "RSA":
        possible = RSA_ALGORITHMS
    # Someone else wrote this: what stands for a name may be a list, which can't be looked up.
    elif kind == "EC" and isinstance(curve, str) and curve in EC_ALGORITHMS:
        possible = (EC_ALGORITHMS[curve],)
    elif kind == "OKP" and curve in OKP_CURVES:
        possible = ("EdDSA",)
    own = entry.get("alg")
    return [name for name in possible if name in allowed and own in (None, name)]


def prepared(entry: dict[str, Any], algorithms: Sequence[str]) -> dict[str, PyJWK]:
    # A private part that someone published by mistake must not get into the worker.
    public: dict[str, Any] = {name: entry[name] for name in ("kty", "kid", "n", "e", "crv", "x", "y") if name in entry}
    keys = {}
    for name in algorithms:
        try:
            key = PyJWK(public, name)
        except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, AttributeError, OverflowError):
            continue
        if getattr(key.key, "key_size", MIN_RSA_BITS) >= (MIN_RSA_BITS if entry["kty"] == "RSA" else 0):
            keys[name] = key
    return keys
