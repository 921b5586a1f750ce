"""Compares the headers before and after the gateway, and hides credentials in what is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from urllib3 import HTTPHeaderDict

from gateway.http_fields import HeaderPairs, normal
from gateway.tokens.identity_signer import IDENTITY_HEADER

CREDENTIALS = frozenset(["authorization", "proxy-authorization"])
COOKIES = frozenset(["cookie", "set-cookie"])
SCHEME = re.compile(r"(bearer|basic|digest|negotiate) ", re.IGNORECASE)
HIDDEN = "…"


@dataclass(frozen=True)
class HeaderDiff:
    """The difference between two header sections. `changed` has name, value before and value after; the values of a
    field that occurs several times are joined with commas. `unchanged` has names only."""

    added: HeaderPairs
    changed: list[tuple[str, str, str]]
    removed: HeaderPairs
    unchanged: list[str]


def header_diff(before: Iterable[tuple[str, str]], after: Iterable[tuple[str, str]]) -> HeaderDiff:
    """Compares the headers by name, without regard to case. Credentials in the result are hidden."""
    diff = HeaderDiff([], [], [], [])
    old_headers, new_headers = by_name(before), by_name(after)
    for name in new_headers:
        old, new = old_headers.getlist(name), new_headers.getlist(name)
        if not old:
            diff.added.extend((name, redacted(name, value)) for value in new)
        elif old == new:
            diff.unchanged.append(name)
        else:
            diff.changed.append((name, joined(name, old), joined(name, new)))
    diff.removed.extend((name, redacted(name, value)) for name, value in before if name not in new_headers)
    return diff


def by_name(headers: Iterable[tuple[str, str]]) -> HTTPHeaderDict:
    return HTTPHeaderDict([(name, value.strip(" \t")) for name, value in headers])


def redacted(name: str, value: str) -> str:
    """The value without its credentials. Only the scheme of Authorization and the names of cookies remain."""
    lower = normal(name)
    if lower == IDENTITY_HEADER.lower():
        return f"{HIDDEN} (a token that the gateway signs for the service)"
    if lower in CREDENTIALS:
        scheme = SCHEME.match(value)
        return f"{scheme[1]} {HIDDEN}" if scheme else HIDDEN
    if lower in COOKIES:
        pairs = [pair.strip().partition("=") for pair in value.split(";")]
        return "; ".join(f"{key}={HIDDEN}" if separator else HIDDEN for key, separator, _ in pairs)
    return value


def joined(name: str, values: Iterable[str]) -> str:
    return ", ".join(redacted(name, value) for value in values)
