"""Which headers are forwarded in each direction, and Max-Forwards. Pure functions over lists of (name, value)."""

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

MAX_FORWARDS_LIMIT = 1000
# The gateway sets the first two itself. Alt-Svc would make clients bypass the gateway (RFC 7838).
NOT_FOR_CLIENTS = frozenset(["x-request-id", "x-gateway-error", "alt-svc"])


def connection_options(headers: Iterable[tuple[str, str]]) -> set[str]:
    """The names that Connection lists: such headers must not be forwarded (RFC 9110 7.6.1)."""
    values = [value for name, value in headers if name.lower() == "connection"]
    return {option.strip().lower() for value in values for option in value.split(",")} if values else set()


def headers_for_upstream(headers: Sequence[tuple[str, str]], identity_names: frozenset[str]) -> HeaderPairs:
    """The client's headers that are forwarded, in order. `identity_names` are the normalized names of headers that only
    the gateway sets."""
    dropped = connection_options(headers)
    passing = [pair for pair in headers if may_reach_upstream(pair[0], identity_names)]
    return [pair for pair in passing if pair[0].lower() not in dropped] if dropped else passing


@lru_cache(maxsize=CACHED_NAMES)
def may_reach_upstream(name: str, identity_names: frozenset[str]) -> bool:
    normalized = normal(name)
    return normalized not in identity_names and not is_never_forwarded(normalized)


def headers_for_client(headers: Sequence[tuple[str, str]]) -> HeaderPairs:
    """The upstream's headers that the client receives, in order: no hop-by-hop and no CORS headers, and none that the
    gateway sets."""
    dropped = connection_options(headers)
    passing = [pair for pair in headers if may_reach_client(pair[0])]
    return [pair for pair in passing if pair[0].lower() not in dropped] if dropped else passing


@lru_cache(maxsize=CACHED_NAMES)
def may_reach_client(name: str) -> bool:
    lower = name.lower()
    return not (lower in HOP_BY_HOP or lower in NOT_FOR_CLIENTS or lower.startswith("access-control-"))


@lru_cache(maxsize=CACHED_NAMES)
def is_set_by_proxies(name: str) -> bool:
    """Whether the header shows that its request came through a proxy."""
    normalized = normal(name)
    return normalized == "via" or normalized in CLIENT_FIELDS or normalized.startswith(CLIENT_PREFIX)


def max_forwards(headers: Sequence[tuple[str, str]]) -> int | None:
    """The value of Max-Forwards (RFC 9110 7.6.2), at most MAX_FORWARDS_LIMIT. None if it is absent, repeated or not a
    number."""
    values = [value for name, value in headers if name.lower() == "max-forwards"]
    if len(values) != 1 or not (values[0].isascii() and values[0].isdigit()):
        return None
    # Four digits are enough to exceed the limit, and a very long number would be slow to convert.
    return min(int(values[0].lstrip("0")[:4] or 0), MAX_FORWARDS_LIMIT)


def with_max_forwards_decremented(headers: HeaderPairs) -> HeaderPairs:
    left = max_forwards(headers)
    if not left:
        return headers
    return [(name, str(left - 1)) if name.lower() == "max-forwards" else (name, value) for name, value in headers]
