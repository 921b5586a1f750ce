"""The cache of verified tokens, limited in number and in memory."""

from __future__ import annotations

from collections import OrderedDict
from sys import getsizeof
from typing import Any

from gateway.tokens.principal import Principal

# The memory of one entry without its texts and claims: the principal itself, its digest, its entry in the mapping, the
# Redis keys of its revocations, and the overhead of its strings.
ENTRY_BYTES = 1350
# The memory of one entry of `Principal.signed`, without the characters of the token.
SIGNED_BYTES = 300


class TokenCache:
    """At most `max_entries` principals, with at most `max_bytes` in all: the oldest are dropped first. A principal that
    is larger than the whole cache is not stored. No lock is needed: greenlets switch only where they wait, and nothing
    here waits."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._principals: OrderedDict[bytes, Principal] = OrderedDict()
        self._bytes = 0
        # Returns the principal for a token's digest, None if the token is not cached.
        self.get = self._principals.get

    def __len__(self) -> int:
        return len(self._principals)

    def add(self, digest: bytes, principal: Principal) -> None:
        used = size_of(principal)
        if not self._max_entries or used > self._max_bytes:
            return
        self.remove(digest)
        principal.digest, principal.cached_bytes = digest, used
        self._principals[digest] = principal
        self._bytes += used
        self._evict()

    def remove(self, digest: bytes) -> None:
        principal = self._principals.pop(digest, None)
        if principal is not None:
            self._bytes -= principal.cached_bytes

    def add_signed_bytes(self, principal: Principal, more_bytes: int) -> None:
        """Counts the memory of an identity token that was stored with a principal, if the principal is cached."""
        if self._principals.get(principal.digest) is principal:
            principal.cached_bytes += more_bytes
            self._bytes += more_bytes
            self._evict()

    def _evict(self) -> None:
        while len(self._principals) > self._max_entries or self._bytes > self._max_bytes:
            _, principal = self._principals.popitem(last=False)
            self._bytes -= principal.cached_bytes


def size_of(principal: Principal) -> int:
    headers = sum(len(value) for _, value in principal.identity_headers)
    scopes = getsizeof(principal.scopes) + sum(map(getsizeof, principal.scopes))
    return ENTRY_BYTES + len(principal.key) + headers + scopes + bytes_of(principal.claims)


def bytes_of(value: Any) -> int:
    """The memory of a parsed JSON value with all its parts. The length of the JSON says little about it: `{}` is two
    bytes of a token and 64 bytes of memory."""
    total, level = 0, [value]
    # A loop, not a recursion: a token may nest as deeply as the JSON parser allows.
    while level:
        total += sum(map(getsizeof, level))
        parts: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is dict:
                parts += one
                parts += one.values()
            elif kind in (list, tuple, frozenset):
                parts += one
        level = parts
    return total
