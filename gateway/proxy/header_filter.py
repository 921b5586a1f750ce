"""Which header fields pass, which are changed and which are dropped: pure functions over lists of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from gateway.http_fields import (
    CACHED_NAMES,
    CLIENT_FIELDS,
    CLIENT_PREFIX,
    HOP_BY_HOP,
    HeaderPairs,
    is_never_forwarded,
    normal,
)

MOST_FORWARDS = 1000
# The gateway's own; and Alt-Svc, by which clients would go on to ask the service past the gateway (RFC 7838).
NOT_FOR_CLIENTS = frozenset(["x-request-id", "x-gateway-error", "alt-svc"])


def connection_options(pairs: Iterable[tuple[str, str]]) -> set[str]:
    """The field names that Connection lists (RFC 9110 7.6.1)."""
    values = [value for name, value in pairs if name.lower() == "connection"]
    return {option.strip().lower() for value in values for option in value.split(",")} if values else set()


def forwarded_fields(pairs: Sequence[tuple[str, str]], identity_names: frozenset[str]) -> HeaderPairs:
    """The client's fields that may go on, in order. `identity_names`: the normal names that only the gateway sets."""
    dropped = connection_options(pairs)
    passing = [pair for pair in pairs if may_be_forwarded(pair[0], identity_names)]
    return [pair for pair in passing if pair[0].lower() not in dropped] if dropped else passing


@lru_cache(maxsize=CACHED_NAMES)
def may_be_forwarded(name: str, identity_names: frozenset[str]) -> bool:
    lower = normal(name)
    return lower not in identity_names and not is_never_forwarded(lower)


def max_forwards(pairs: Sequence[tuple[str, str]]) -> int | None:
    """How many more times the request may be forwarded (RFC 9110 7.6.2); None where that is not said in one number."""
    values = [value for name, value in pairs if name.lower() == "max-forwards"]
    if len(values) != 1 or not (values[0].isascii() and values[0].isdigit()):
        return None
    # Of a longer number its first digits are MOST_FORWARDS or more already.
    return min(int(values[0].lstrip("0")[:4] or 0), MOST_FORWARDS)


def with_one_forward_less(pairs: HeaderPairs) -> HeaderPairs:
    """The fields of a request that counts how often it may be forwarded, and is."""
    left = max_forwards(pairs)
    if not left:
        return pairs
    return [(name, str(left - 1)) if name.lower() == "max-forwards" else (name, value) for name, value in pairs]


@lru_cache(maxsize=CACHED_NAMES)
def is_set_by_proxies(name: str) -> bool:
    """Whether the field says that its request came through a proxy."""
    lower = normal(name)
    return lower == "via" or lower in CLIENT_FIELDS or lower.startswith(CLIENT_PREFIX)


def answered_fields(pairs: Sequence[tuple[str, str]]) -> HeaderPairs:
    """The upstream's fields that the client gets, in order: not hop-by-hop, not CORS, not the gateway's own."""
    dropped = connection_options(pairs)
    passing = [pair for pair in pairs if may_reach_client(pair[0])]
    return [pair for pair in passing if pair[0].lower() not in dropped] if dropped else passing


@lru_cache(maxsize=CACHED_NAMES)
def may_reach_client(name: str) -> bool:
    lower = name.lower()
    return not (lower in HOP_BY_HOP or lower in NOT_FOR_CLIENTS or lower.startswith("access-control-"))
