"""Parses and verifies tokens in compact serialization, `header.payload.signature` (RFC 7515 3.1), with PyJWT."""

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
# The characters that may end a segment, by its length modulo 4. Other characters set bits that do not belong to any
# byte. If they were allowed, a token would have several spellings (RFC 4648 3.5).
LAST_CHARACTERS = (ascii_letters.encode() + b"0123456789-_", b"", b"AQgw", b"AEIMQUYcgkosw048")
# Usually an issuer has one header per key. If an issuer puts something different into each header, the cache must not
# grow without end.
MAX_HEADERS = 64


class StrictJWS(jwt.PyJWS):
    """PyJWT with a strict parser: a token can be written in only one way, and each part can be read in only one way."""

    def _load(self, jwt: str | bytes) -> tuple[bytes, bytes, dict[str, Any], bytes]:
        """Parses a token. Returns payload, signing input, header and signature."""
        signing_input, payload, signature = split_token(jwt if isinstance(jwt, bytes) else jwt.encode())
        header = parse_object(decode_segment(signing_input[: -len(payload) - 1]))
        return decode_segment(payload), signing_input, header, decode_segment(signature)


def split_token(token: bytes) -> tuple[bytes, bytes, bytes]:
    """Splits a token. Returns the signing input, and the segments of payload and signature. Raises DecodeError."""
    signing_input, _, signature = token.rpartition(b".")
    _, dot, payload = signing_input.partition(b".")
    if not dot:
        raise jwt.DecodeError("Not enough segments")
    return signing_input, payload, signature


def decode_segment(segment: bytes) -> bytes:
    """The bytes that a segment encodes (RFC 7515 2). Padding, blanks, characters of other alphabets and unused bits
    raise DecodeError."""
    if not BASE64URL.fullmatch(segment) or segment[-1:] not in LAST_CHARACTERS[len(segment) % 4]:
        raise jwt.DecodeError("Invalid base64url")
    return binascii.a2b_base64(segment.translate(TO_BASE64) + b"==")


def parse_object(octets: bytes) -> dict[str, Any]:
    """Parses a header or claims, which are a JSON object in UTF-8 (RFC 7515 3.3, RFC 7519 7.2). PyJWT would also accept
    UTF-16 and UTF-32. No name may occur twice (RFC 7515 4, RFC 7519 4): a service might read the other value.

    Raises DecodeError."""
    try:
        text = octets.decode()
        # The usual case, without blanks around the object, is faster without `decode`.
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
        raise ValueError("a name occurs twice in an object")
    return found


def refuse_constant(name: str) -> None:
    # Called for NaN and Infinity, which Python's parser accepts by default.
    raise ValueError(f"{name} is not JSON")


JSON: Any = JSONDecoder(object_pairs_hook=without_duplicates, parse_constant=refuse_constant)


class VerifiedHeader(NamedTuple):
    """The parsed header of a verified token, and the key that verified it. `prepared_key` is the same key in the form
    that its algorithm needs."""

    header: dict[str, Any]
    key: PyJWK
    prepared_key: Any


class CompactJWT(jwt.PyJWT):
    """PyJWT with a cache of verified headers: tokens of one issuer and key usually have the same header, which need not
    be parsed and checked each time. Does not check `exp`, `nbf` and `iat`; the Verifier does."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._jws = StrictJWS(options=self._get_sig_options())
        # The key is the header's segment of a token. Only headers of verified tokens are added.
        self._verified: dict[str, VerifiedHeader] = {}

    def header(self, token: str) -> dict[str, Any]:
        """The token's header, which is not verified. Raises PyJWTError."""
        verified = self._verified.get(token.partition(".")[0])
        return self._jws.get_unverified_header(token) if verified is None else verified.header

    def verified_claims(
        self, token: str, key: PyJWK, audience: str | tuple[str, ...] | None, issuer: str | None
    ) -> dict[str, Any]:
        """The claims of a token that this key has signed. Raises PyJWTError, and what json, base64 and int() raise for
        hostile input."""
        segment = token.partition(".")[0]
        verified = self._verified.get(segment)
        if verified is not None and verified.key is key:
            claims = self._signed_claims(token, verified)
            self._validate_claims(claims, self.options, audience, issuer)
            return claims
        decoded = self.decode_complete(token, key, algorithms=[key.algorithm_name], audience=audience, issuer=issuer)
        if len(self._verified) >= MAX_HEADERS:
            self._verified.clear()
        self._verified[segment] = VerifiedHeader(decoded["header"], key, key.Algorithm.prepare_key(key.key))
        return dict(decoded["payload"])

    def _signed_claims(self, token: str, verified: VerifiedHeader) -> dict[str, Any]:
        """Verifies the signature and returns the claims, as `decode_complete` does, but with header and key from the
        cache."""
        signing_input, payload, signature = split_token(token.encode())
        octets = decode_segment(payload)
        if not verified.key.Algorithm.verify(signing_input, verified.prepared_key, decode_segment(signature)):
            raise jwt.InvalidSignatureError
        return parse_object(octets)

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        return parse_object(decoded["payload"])

    def _validate_claims(
        self,
        payload: dict[str, Any],
        options: FullOptions,
        audience: Iterable[str] | str | None = None,
        issuer: Container[str] | str | None = None,
        subject: str | None = None,
        leeway: float | timedelta = 0,  # noqa: ARG002 - for times
    ) -> None:
        """Makes PyJWT's checks except those of times, which the Verifier makes: PyJWT uses the machine's clock for
        them, and cuts off fractions of a second."""
        self._validate_required_claims(payload, options["require"])
        if issuer is not None:
            self._validate_iss(payload, issuer)
        if audience is not None or "aud" in payload:
            self._validate_aud(payload, audience)
        self._validate_sub(payload, subject)
        if "jti" in payload:
            self._validate_jti(payload)
