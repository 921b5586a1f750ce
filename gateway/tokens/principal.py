"""The principal: the caller, as identified by a verified token, and the headers that tell services who is calling."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

# Printable ASCII stays; everything else, and the % that would make the result ambiguous, is percent-encoded (UTF-8).
HEADER_SAFE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
# Values that need no encoding.
PLAIN = re.compile(r"[!-$&-~]+")
# Unreserved characters (RFC 3986 2.3), and @ for e-mail addresses.
KEY_SAFE = re.compile(r"[A-Za-z0-9_.~@-]*")


@dataclass(slots=True)
class Principal:
    """A verified caller. All requests with the same token share it, so its identity is never changed. `issuer` is the
    configured issuer, empty if none is configured. Keys of counters and revocations contain it from the start, so that
    they stay valid when a second issuer is added. Times are seconds since 1970 (RFC 7519 2)."""

    subject: str
    issuer: str
    token_id: str | None
    issued_at: float | None
    scopes: frozenset[str]
    expires_at: float
    claims: Mapping[str, Any] = field(repr=False)
    identity_headers: tuple[tuple[str, str], ...] = field(repr=False)
    # For a token without an id: the SHA-256 of its signing input, by which the token can be revoked.
    fingerprint: str | None = None
    # Identifies the caller. Issuer and subject are percent-encoded, so that no subject can imitate the key of another.
    key: str = field(init=False, compare=False)
    # The identity token for each service, and when the token is to be renewed.
    signed: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False, compare=False)
    # The Redis keys under which the token or its subject would be revoked; empty until they have been computed.
    revocation_keys: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)
    # Set by the token cache: the digest of the token, and the memory that the principal takes.
    digest: bytes = field(default=b"", init=False, repr=False, compare=False)
    cached_bytes: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.key = f"user:{quoted(self.issuer)}:{quoted(self.subject)}"


def quoted(text: str) -> str:
    return text if KEY_SAFE.fullmatch(text) else quote(text, safe="@", errors="surrogatepass")


def identity_headers(claims: Mapping[str, Any], claims_to_headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The header fields that tell a service who is calling. A claim that the token lacks gives no field."""
    values = [(header, claim_at(claims, claim)) for claim, header in claims_to_headers.items()]
    return tuple([(header, header_value(value)) for header, value in values if value is not None])


def claim_at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim with this name, else the one at this path, such as `realm_access.roles`; None if there is none."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return None
        value = value[step]
    return value


def header_value(value: Any) -> str:
    """A claim as the value of a header field. It has no control bytes, so it can't inject a second field (RFC 9110
    5.5)."""
    if isinstance(value, list):
        return ",".join(header_value(item).replace(",", "%2C") for item in value)
    if isinstance(value, str):
        text = value
    elif value is None or isinstance(value, bool | dict):
        text = json.dumps(value, separators=(",", ":"))
    else:
        text = str(value)
    if PLAIN.fullmatch(text):
        return text
    # Blanks at the ends are encoded, as servers would strip them otherwise.
    blanks = len(text) - len(text.lstrip(" "))
    encoded = quote(text.strip(" "), safe=HEADER_SAFE, errors="surrogatepass")
    return "%20" * blanks + encoded + "%20" * (len(text) - len(text.rstrip(" ")) if text.strip(" ") else 0)


def granted_scopes(claims: Mapping[str, Any], path: str | None = None) -> frozenset[str]:
    """The scopes in the claim at `path` if one is configured, else in `scope` (RFC 8693 4.2), else in `scp`: a list of
    strings, or one string with scopes separated by blanks."""
    granted = claims.get("scope", claims.get("scp", "")) if path is None else claim_at(claims, path)
    if isinstance(granted, str):
        return frozenset(granted.split(" ")) - {""} if granted else frozenset()
    if isinstance(granted, list):
        return frozenset(item for item in granted if isinstance(item, str))
    return frozenset()
