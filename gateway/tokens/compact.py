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

BASE64URL = re.compile(rb"[A-Za-z0-9_-]*")
TO_BASE64 = bytes.maketrans(b"-_", b"+/")
# With what a segment may end, by what its length leaves divided by 4: bits that say nothing must not be set, or two
# texts would be the same token (RFC 4648 3.5).
LAST_OF = (ascii_letters.encode() + b"0123456789-_", b"", b"AQgw", b"AEIMQUYcgkosw048")
JSON: Any = JSONDecoder()
# An issuer has one header for each of its keys; one who writes something else into each is not remembered for long.
HEADERS_KNOWN = 64


class QuickJWS(jwt.PyJWS):
    """PyJWT, which looks at each character of a token by itself, but for tokens without any odd ones."""

    @staticmethod
    def _decode_base64url_segment(segment: bytes, name: str) -> bytes:
        if BASE64URL.fullmatch(segment) and segment[-1:] in LAST_OF[len(segment) % 4]:
            return binascii.a2b_base64(segment.translate(TO_BASE64) + b"==")
        return jwt.PyJWS._decode_base64url_segment(segment, name)


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
        self._jws = QuickJWS(options=self._get_sig_options())
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
        signed, _, signature_segment = token.encode().rpartition(b".")
        _, dot, payload_segment = signed.partition(b".")
        if not dot:
            raise jwt.DecodeError("Not enough segments")
        payload = self._jws._decode_base64url_segment(payload_segment, "payload")
        signature = self._jws._decode_base64url_segment(signature_segment, "crypto")
        if not by.key.Algorithm.verify(signed, by.prepared_key, signature):
            raise jwt.InvalidSignatureError
        return self._decode_payload({"payload": payload})

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        """In UTF-8 alone (RFC 7519 7.2, RFC 8725 3.7); PyJWT would guess, and take UTF-16 and UTF-32, too."""
        try:
            text = decoded["payload"].decode()
            # As it mostly is: without blanks around it.
            claims, end = JSON.scan_once(text, 0) if text[:1] == "{" else (None, 0)
            if end != len(text):
                claims = JSON.decode(text)
        except (ValueError, RecursionError, StopIteration) as error:
            raise jwt.DecodeError("Invalid payload string") from error
        if not isinstance(claims, dict):
            raise jwt.DecodeError("Invalid payload string: must be a JSON object")
        return claims

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
