"""Verified tokens' principals, bounded by their number and by the memory that they take."""

from __future__ import annotations

from collections import OrderedDict
from sys import getsizeof
from threading import Lock
from typing import Any

from gateway.tokens.principal import Principal

# The principal itself, its digest, its place in the mapping, the Redis keys of its revocations, and what its texts take
# beside their characters.
ENTRY_BYTES = 1350
# One service's place in `Principal.signed`: key, tuple, time and the token's own header.
SIGNED_BYTES = 300


class TokenCache:
    """Holds at most `most` principals of at most `most_bytes` in all; the oldest go first. A principal that is larger
    than the whole cache is not held."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._principals: OrderedDict[bytes, Principal] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        # By a token's digest; None where it is not held.
        self.get = self._principals.get

    def __len__(self) -> int:
        return len(self._principals)

    def add(self, digest: bytes, principal: Principal) -> None:
        used = bytes_taken_by(principal)
        if not self._most or used > self._most_bytes:
            return
        with self._lock:
            self._remove(digest)
            principal.digest, principal.cached_bytes = digest, used
            self._principals[digest] = principal
            self._bytes += used
            self._make_room()

    def remove(self, digest: bytes) -> None:
        with self._lock:
            self._remove(digest)

    def note_signed(self, principal: Principal, more_bytes: int) -> None:
        """Counts what has been signed for a principal, as long as it is held."""
        with self._lock:
            if self._principals.get(principal.digest) is principal:
                principal.cached_bytes += more_bytes
                self._bytes += more_bytes
                self._make_room()

    def _make_room(self) -> None:
        while len(self._principals) > self._most or self._bytes > self._most_bytes:
            _, principal = self._principals.popitem(last=False)
            self._bytes -= principal.cached_bytes

    def _remove(self, digest: bytes) -> None:
        principal = self._principals.pop(digest, None)
        if principal is not None:
            self._bytes -= principal.cached_bytes


def bytes_taken_by(principal: Principal) -> int:
    headers = sum(len(value) for _, value in principal.identity_headers)
    scopes = getsizeof(principal.scopes) + sum(map(getsizeof, principal.scopes))
    return ENTRY_BYTES + len(principal.key) + headers + scopes + bytes_of(principal.claims)


def bytes_of(value: Any) -> int:
    """The memory of a value as json reads it, all of its parts included. Not by the text's length: `{}` takes two bytes
    of a token and 64 of memory."""
    total, level = 0, [value]
    # Level by level, as a token may nest as deeply as json's own recursion goes.
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
