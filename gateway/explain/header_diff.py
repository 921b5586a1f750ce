"""What of header fields can be shown: how they differ, and never what lets somebody in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.http_fields import HeaderPairs, normal
from gateway.tokens.identity_signer import FIELD

CREDENTIALS = frozenset(["authorization", "proxy-authorization"])
COOKIES = frozenset(["cookie", "set-cookie"])
SCHEME = re.compile(r"(bearer|basic|digest|negotiate) ", re.IGNORECASE)
HIDDEN = "…"


@dataclass(frozen=True)
class Difference:
    """What becomes of a header's fields on the way, by name. `changed` has the values before and after, joined."""

    added: HeaderPairs
    changed: list[tuple[str, str, str]]
    removed: HeaderPairs
    unchanged: list[str]


def difference(before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]) -> Difference:
    found = Difference([], [], [], [])
    sent = {name.lower() for name, _ in after}
    for name in names_of(after):
        was, becomes = values_of(before, name), values_of(after, name)
        if not was:
            found.added.extend((name, shown(name, value)) for value in becomes)
        elif was == becomes:
            found.unchanged.append(name)
        else:
            found.changed.append((name, joined(name, was), joined(name, becomes)))
    found.removed.extend((name, shown(name, value)) for name, value in before if name.lower() not in sent)
    return found


def shown(name: str, value: str) -> str:
    """The value, less what is secret of it."""
    lower = normal(name)
    if lower == FIELD.lower():
        return f"{HIDDEN} (a token that the gateway signs for the service)"
    if lower in CREDENTIALS:
        scheme = SCHEME.match(value)
        return f"{scheme[1]} {HIDDEN}" if scheme else HIDDEN
    if lower in COOKIES:
        pairs = [pair.strip().partition("=") for pair in value.split(";")]
        return "; ".join(f"{key}={HIDDEN}" if separator else HIDDEN for key, separator, _ in pairs)
    return value


def names_of(fields: Iterable[tuple[str, str]]) -> list[str]:
    """The names, each once, as they are spelled first."""
    found: dict[str, str] = {}
    for name, _ in fields:
        found.setdefault(name.lower(), name)
    return list(found.values())


def values_of(fields: Iterable[tuple[str, str]], name: str) -> list[str]:
    return [value.strip(" \t") for key, value in fields if key.lower() == name.lower()]


def joined(name: str, values: Iterable[str]) -> str:
    return ", ".join(shown(name, value) for value in values)
