"""Tokens that are not good any more before they expire: marks in Redis, looked up together with the quota.

A mark is a number under a hashed key, followed by what it is about, for people: for a subject the time before which its
tokens must have been issued to be refused ("log out everywhere"), for one token the time until which the mark is kept.
One token is marked by its id (`jti`), or, where it has none, by the digest of its signed part (`token`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Literal

from gateway.errors import RevocationNotStored
from gateway.redis.client import FAILURES, SharedRedis
from gateway.tokens.principal import Principal

PREFIX = "gateway:revoked:"
TOKEN_REVOKED = "the token has been revoked"  # noqa: S105 - a sentence
SUBJECT_REVOKED = "the tokens that the subject had been issued have been revoked"
# What clients read who log in again and again: their new tokens are refused, too.
UNDATED_REVOKED = "the subject's tokens have been revoked, and this one does not say when it was issued (no iat)"

Kind = Literal["jti", "sub", "token"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """`name` is a token's id, a subject, or a token's fingerprint; `issuer` is empty where none is configured; `until`
    is when it is forgotten (seconds since 1970); `not_before` is set for subjects."""

    kind: str
    name: str
    issuer: str
    until: float
    not_before: int | None = None


def fingerprint_of(token: str) -> str:
    """What names a token that has no id. The signature is left out: of an ECDSA signature anybody can make a second one
    that is good, too, (r, n - s), and so a token that has not been revoked."""
    return sha256(token.rpartition(".")[0].encode()).hexdigest()


def revocation_keys_of(principal: Principal) -> tuple[str, ...]:
    """The Redis keys of the marks that concern this principal's token: its subject's, and the token's own."""
    if not principal.revocation_keys:
        kind, name = revocable_name(principal)
        own = () if name is None else (revocation_key(kind, name, principal.issuer),)
        principal.revocation_keys = (revocation_key("sub", principal.subject, principal.issuer), *own)
    return principal.revocation_keys


def revocable_name(principal: Principal) -> tuple[Kind, str | None]:
    """What marks this one token: its id, else its fingerprint."""
    return ("jti", principal.token_id) if principal.token_id is not None else ("token", principal.fingerprint)


def revocation_key(kind: Kind, name: str, issuer: str) -> str:
    # Hashed: a name of any length and with any bytes in it stays one short key that nobody can forge.
    text = f"{len(issuer)}:{issuer}{name}".encode("utf-8", "surrogatepass")
    return f"{PREFIX}{kind}:{blake2b(text, digest_size=16).hexdigest()}"


def revocation_reason(principal: Principal, marks: Sequence[int | None]) -> str:
    """Why the token is refused, by the values of `revocation_keys_of`; empty if it is not. A token without `iat` counts
    as issued before."""
    not_before, *token_marks = marks
    if any(mark is not None for mark in token_marks):
        return TOKEN_REVOKED
    if not_before is None:
        return ""
    if principal.issued_at is None:
        return UNDATED_REVOKED
    return SUBJECT_REVOKED if principal.issued_at < not_before else ""


class Revocations:
    """Revokes and lists. Each change is read back. Methods raise one of `redis.client.FAILURES` when Redis fails, and
    RevocationNotStored where Redis answered but does not have what it was sent.

    In a cluster each partition has all the marks, so that they are found beside any caller's counters."""

    def __init__(self, redis: SharedRedis, keep_seconds: int) -> None:
        self._redis = redis
        self._keep_seconds = keep_seconds

    def revoke_token(self, name: str, issuer: str, until: int | None, kind: Kind = "jti") -> Revocation:
        """Refuses one token `until` then (seconds since 1970), which is when it would be refused anyway; for the
        configured time where that is not known."""
        now = time.time()
        if until is None:
            until = int(now) + self._keep_seconds
        # Rounded up: a mark that ends before its token makes that good again.
        self._mark(revocation_key(kind, name, issuer), until, f"{issuer}\n{name}", max(1, until - int(now)))
        return Revocation(kind, name, issuer, until)

    def revoke_subject(self, subject: str, issuer: str) -> Revocation:
        """Refuses all tokens of a subject that have been issued up to this second."""
        not_before = int(time.time()) + 1
        self._mark(revocation_key("sub", subject, issuer), not_before, f"{issuer}\n{subject}", self._keep_seconds)
        return Revocation("sub", subject, issuer, not_before + self._keep_seconds, not_before)

    def allow_again(self, kind: Kind, name: str, issuer: str) -> bool:
        """Takes a revocation back; whether there was one."""
        names = self._names_of(revocation_key(kind, name, issuer))
        deleted = [self._redis.run(name, "DEL", name) for name in names]
        if any(self._redis.run(name, "GET", name) is not None for name in names):
            raise RevocationNotStored("Redis still has the revocation")
        return any(deleted)

    def listed(self) -> Iterator[Revocation]:
        tag = self._redis.hash_tags.tags[0]
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
        names = self._names_of(key)
        for name in names:
            try:
                self._redis.run(name, "SET", name, value, "EX", seconds)
            except FAILURES as error:
                # Where a node is gone, the others refuse the token none the less. What failed can be done again.
                failure = error
        if failure is not None:
            raise failure
        # Another command may have marked the same in between: a mark is a mark.
        if any(self._redis.run(name, "GET", name) is None for name in names):
            raise RevocationNotStored("Redis has taken the revocation, but does not have it")

    def _names_of(self, key: str) -> list[str]:
        return [tag + key for tag in self._redis.hash_tags.tags]
