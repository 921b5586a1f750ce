"""The principal: who a verified token says is calling, and what services are told about it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

# Printable ASCII stays; everything else, and the % that would make the result ambiguous, is percent-encoded (UTF-8).
HEADER_SAFE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
# What it leaves as it is.
PLAIN = re.compile(r"[!-$&-~]+")
# Unreserved (RFC 3986 2.3), and what is in each e-mail address.
KEY_SAFE = re.compile(r"[A-Za-z0-9_.~@-]*")


@dataclass(slots=True)
class Principal:
    """A verified caller, shared by all requests with its token, so never changed. `issuer` is the configured one, empty
    where none is configured: counters and revocations are stored under it, so that they stay valid when a second issuer
    is added. Times are seconds since 1970 (RFC 7519 2)."""

    subject: str
    issuer: str
    token_id: str | None
    issued_at: float | None
    scopes: frozenset[str]
    expires_at: float
    claims: Mapping[str, Any] = field(repr=False)
    identity_headers: tuple[tuple[str, str], ...] = field(repr=False)
    # SHA-256 of the signed part, for a token without an id: by this it can be revoked.
    fingerprint: str | None = None
    # What tells this caller apart from all others. Quoted, so that no subject can be written to look like another one.
    key: str = field(init=False, compare=False)
    # By service: what has been signed for it, and when that is to be signed anew.
    signed: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False, compare=False)
    # The Redis keys of its revocations, once they have been looked up.
    revocation_keys: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)
    # The cache's own record: under which digest it is held, and how much memory it takes.
    digest: bytes = field(default=b"", init=False, repr=False, compare=False)
    cached_bytes: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.key = f"user:{quoted(self.issuer)}:{quoted(self.subject)}"


def quoted(text: str) -> str:
    return text if KEY_SAFE.fullmatch(text) else quote(text, safe="@", errors="surrogatepass")


def identity_headers(claims: Mapping[str, Any], claims_to_headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The header fields that tell a service who is calling; a claim that the token lacks gives none."""
    told = [(header, claim_at(claims, claim)) for claim, header in claims_to_headers.items()]
    return tuple([(header, header_value(value)) for header, value in told if value is not None])


def claim_at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of that name, else the one at that path: `realm_access.roles`. None where there is none."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return None
        value = value[step]
    return value


def header_value(value: Any) -> str:
    """A claim as a header field's value: never a control byte, so never a second field (RFC 9110 5.5)."""
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
    # Blanks at the ends would be lost on the way.
    blanks = len(text) - len(text.lstrip(" "))
    kept = quote(text.strip(" "), safe=HEADER_SAFE, errors="surrogatepass")
    return "%20" * blanks + kept + "%20" * (len(text) - len(text.rstrip(" ")) if text.strip(" ") else 0)


def granted_scopes(claims: Mapping[str, Any], path: str | None = None) -> frozenset[str]:
    """The claim at `path` where one is configured; else `scope`, separated by blanks (RFC 8693 4.2), else `scp`.
    A list of texts, or one text."""
    granted = claims.get("scope", claims.get("scp", "")) if path is None else claim_at(claims, path)
    if isinstance(granted, str):
        return frozenset(granted.split(" ")) - {""} if granted else frozenset()
    if isinstance(granted, list):
        return frozenset(item for item in granted if isinstance(item, str))
    return frozenset()
