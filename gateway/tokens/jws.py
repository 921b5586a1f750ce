"""Reads and verifies tokens in their compact form (RFC 7515 3.1), by PyJWT."""

from __future__ import annotations

import binascii
import re
from collections.abc import Container, Iterable
from datetime import timedelta
from json import JSONDecoder
from string import ascii_letters
from typing import Any, NamedTuple

import jwt
from jwt import PyJWK
from jwt.types import FullOptions, Options

from gateway.errors import describe

BASE64URL = re.compile(rb"[A-Za-z0-9_-]*")
TO_BASE64 = bytes.maketrans(b"-_", b"+/")
# With what a segment may end, by what its length leaves divided by 4: bits that say nothing must not be set, or two
# texts would be the same token (RFC 4648 3.5).
LAST_OF = (ascii_letters.encode() + b"0123456789-_", b"", b"AQgw", b"AEIMQUYcgkosw048")
# An issuer has one header for each of its keys; one who writes something else into each is not remembered for long.
HEADERS_KNOWN = 64


class StrictJWS(jwt.PyJWS):
    """PyJWT, but for how a token is taken apart: each token has one spelling, and each part one reading."""

    def _load(self, jwt: str | bytes) -> tuple[bytes, bytes, dict[str, Any], bytes]:
        """Payload, signed part, header and signature."""
        signed, payload, signature = segments_of(jwt if isinstance(jwt, bytes) else jwt.encode())
        header = json_object(octets_of(signed[: -len(payload) - 1]))
        return octets_of(payload), signed, header, octets_of(signature)


def segments_of(token: bytes) -> tuple[bytes, bytes, bytes]:
    """The signed part, the payload's segment of it, and the signature's. Raises DecodeError."""
    signed, _, signature = token.rpartition(b".")
    _, dot, payload = signed.partition(b".")
    if not dot:
        raise jwt.DecodeError("Not enough segments")
    return signed, payload, signature


def octets_of(segment: bytes) -> bytes:
    """What a segment stands for (RFC 7515 2): no padding, no blanks, no other alphabet, no bits that say nothing.

    Raises DecodeError."""
    if not BASE64URL.fullmatch(segment) or segment[-1:] not in LAST_OF[len(segment) % 4]:
        raise jwt.DecodeError("Invalid base64url")
    return binascii.a2b_base64(segment.translate(TO_BASE64) + b"==")


def json_object(octets: bytes) -> dict[str, Any]:
    """A header, or claims: an object in UTF-8 alone (RFC 7515 3.3, RFC 7519 7.2), where PyJWT would guess and take
    UTF-16 and UTF-32, too. No name stands in it twice (RFC 7515 4, RFC 7519 4): a service might read the other one.

    Raises DecodeError."""
    try:
        text = octets.decode()
        # As it mostly is: without blanks around it.
        found, end = JSON.scan_once(text, 0) if text[:1] == "{" else (None, 0)
        if end != len(text):
            found = JSON.decode(text)
    except (ValueError, RecursionError, StopIteration) as error:
        raise jwt.DecodeError(f"not readable: {describe(error)}") from error
    if not isinstance(found, dict):
        raise jwt.DecodeError("must be a JSON object")
    return found


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in an object twice")
    return found


def refuse_constant(name: str) -> None:
    # NaN and the infinities, which Python reads and JSON does not have.
    raise ValueError(f"{name} is not JSON")


JSON: Any = JSONDecoder(object_pairs_hook=without_duplicates, parse_constant=refuse_constant)


class Accepted(NamedTuple):
    """A header, as read, with which a token was verified, and the key that did, also as its algorithm wants it."""

    header: dict[str, Any]
    key: PyJWK
    prepared_key: Any


class CompactTokens(jwt.PyJWT):
    """PyJWT, which reads each token's header by itself, but for headers that it has accepted: tokens of one issuer and
    key begin with the same letters, which with the same key mean the same again. Times are not checked."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._jws = StrictJWS(options=self._get_sig_options())
        # By its segment. Only tokens that were verified put something in.
        self._accepted: dict[str, Accepted] = {}

    def header(self, token: str) -> dict[str, Any]:
        """What the token says of itself, unverified. Raises PyJWTError."""
        accepted = self._accepted.get(token.partition(".")[0])
        return self._jws.get_unverified_header(token) if accepted is None else accepted.header

    def verified_claims(
        self, token: str, key: PyJWK, audience: str | tuple[str, ...] | None, issuer: str | None
    ) -> dict[str, Any]:
        """The claims of a token that the key has signed. Raises PyJWTError, and what json, base64 and int() raise for
        hostile input."""
        segment = token.partition(".")[0]
        accepted = self._accepted.get(segment)
        if accepted is not None and accepted.key is key:
            claims = self._signed_claims(token, accepted)
            self._validate_claims(claims, self.options, audience, issuer)
            return claims
        decoded = self.decode_complete(token, key, algorithms=[key.algorithm_name], audience=audience, issuer=issuer)
        if len(self._accepted) >= HEADERS_KNOWN:
            self._accepted.clear()
        self._accepted[segment] = Accepted(decoded["header"], key, key.Algorithm.prepare_key(key.key))
        return dict(decoded["payload"])

    def _signed_claims(self, token: str, by: Accepted) -> dict[str, Any]:
        """What `decode_complete` does beside its work on the header and on the key, which is done."""
        signed, payload, signature = segments_of(token.encode())
        octets = octets_of(payload)
        if not by.key.Algorithm.verify(signed, by.prepared_key, octets_of(signature)):
            raise jwt.InvalidSignatureError
        return json_object(octets)

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        return json_object(decoded["payload"])

    def _validate_claims(
        self,
        payload: dict[str, Any],
        options: FullOptions,
        audience: Iterable[str] | str | None = None,
        issuer: Container[str] | str | None = None,
        subject: str | None = None,
        leeway: float | timedelta = 0,  # noqa: ARG002 - of times
    ) -> None:
        """All that PyJWT checks, but for times: it reads the machine's clock, and cuts off fractions of a second."""
        self._validate_required_claims(payload, options["require"])
        if issuer is not None:
            self._validate_iss(payload, issuer)
        if audience is not None or "aud" in payload:
            self._validate_aud(payload, audience)
        self._validate_sub(payload, subject)
        if "jti" in payload:
            self._validate_jti(payload)
