"""Tokens that are not good any more before they expire: marks in Redis, looked up together with the quota.

A mark is a number under a hashed key, followed by what it is about, for people: for a token id the token's `exp`, for
a subject the time before which its tokens must have been issued to be refused ("log out everywhere").
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from gateway.redis.client import FAILURES, SharedRedis
from gateway.tokens.principal import Principal

PREFIX = "gateway:revoked:"


@dataclass(frozen=True, slots=True)
class Revocation:
    """`kind` is `jti` or `sub`; `issuer` is empty where there is but one; `until` is when it is forgotten (seconds
    since 1970); `not_before` is set for subjects."""

    kind: str
    name: str
    issuer: str
    until: float
    not_before: int | None = None


def mark_keys(principal: Principal) -> list[str]:
    """The Redis keys that speak of this principal's token: its subject's, and its id's where it has one."""
    keys = [mark_key("sub", principal.subject, principal.issuer)]
    if principal.token_id is not None:
        keys.append(mark_key("jti", principal.token_id, principal.issuer))
    return keys


def mark_key(kind: str, name: str, issuer: str) -> str:
    # Hashed: a name of any length and with any bytes in it stays one short key that nobody can forge.
    text = f"{len(issuer)}:{issuer}{name}".encode("utf-8", "surrogatepass")
    return f"{PREFIX}{kind}:{blake2b(text, digest_size=16).hexdigest()}"


def is_revoked(principal: Principal, marks: list[int | None]) -> bool:
    """By the values of `mark_keys`. A token that does not say when it was issued counts as issued before."""
    not_before, *token_marks = marks
    if any(mark is not None for mark in token_marks):
        return True
    return not_before is not None and (principal.issued_at is None or principal.issued_at < not_before)


class Revocations:
    """Revokes and lists. Methods raise one of `redis.client.FAILURES` when Redis fails.

    In a cluster each partition has all the marks, so that they are found beside any caller's counters."""

    def __init__(self, redis: SharedRedis, keep_seconds: int) -> None:
        self._redis = redis
        self._keep_seconds = keep_seconds

    def revoke_token(self, token_id: str, issuer: str, expires_at: int | None) -> Revocation:
        """Refuses one token until its `exp`, or for the configured time where that is not known."""
        now = int(time.time())
        until = expires_at if expires_at is not None else now + self._keep_seconds
        self._mark(mark_key("jti", token_id, issuer), until, f"{issuer}\n{token_id}", max(1, until - now))
        return Revocation("jti", token_id, issuer, until)

    def revoke_subject(self, subject: str, issuer: str) -> Revocation:
        """Refuses all tokens of a subject that have been issued up to this second."""
        not_before = int(time.time()) + 1
        self._mark(mark_key("sub", subject, issuer), not_before, f"{issuer}\n{subject}", self._keep_seconds)
        return Revocation("sub", subject, issuer, not_before + self._keep_seconds, not_before)

    def allow_again(self, kind: str, name: str, issuer: str) -> bool:
        """Takes a revocation back; whether there was one."""
        key = mark_key(kind, name, issuer)
        names = [tag + key for tag in self._redis.partitions.tags]
        deleted = [self._redis.run(name, "DEL", name) for name in names]
        return any(deleted)

    def listed(self) -> Iterator[Revocation]:
        tag = self._redis.partitions.tags[0]
        for key in self._redis.scan(tag + PREFIX + "*"):
            value, left = self._redis.run(key, "GET", key), self._redis.run(key, "TTL", key)
            if not isinstance(value, bytes) or not isinstance(left, int):
                continue
            number, _, about = value.decode("utf-8", "replace").partition(" ")
            issuer, _, name = about.partition("\n")
            kind = key.removeprefix(tag + PREFIX).partition(":")[0]
            yield Revocation(kind, name, issuer, time.time() + left, int(number) if kind == "sub" else None)

    def _mark(self, key: str, number: int, about: str, seconds: int) -> None:
        value = f"{number} {about}".encode("utf-8", "replace")
        failure: Exception | None = None
        for name in [tag + key for tag in self._redis.partitions.tags]:
            try:
                self._redis.run(name, "SET", name, value, "EX", seconds)
            except FAILURES as error:
                # Where a node is gone, the others refuse the token none the less. What failed can be done again.
                failure = error
        if failure is not None:
            raise failure
