"""Revocation of tokens before they expire: entries in Redis, looked up in the same call as the rate limits.

An entry has a hashed key. Its value is a number, followed by a description for people. For a subject ("log out
everywhere") the number is a time: tokens issued before it are refused. For one token the number is the time when the
entry expires. One token is identified by its id (`jti`), or, if it has none, by the digest of its signing input
(`token`).
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
# New tokens without iat are refused as well, so clients would otherwise log in again and again without knowing why.
UNDATED_REVOKED = "the subject's tokens have been revoked, and this one does not say when it was issued (no iat)"

Kind = Literal["jti", "sub", "token"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """An entry. `name` is a token's id, a subject, or a token's fingerprint, as `kind` says. `issuer` is empty if none
    is configured. `until` is when the entry expires (seconds since 1970). `not_before` is set for subjects: their
    tokens issued before it are refused."""

    kind: str
    name: str
    issuer: str
    until: float
    not_before: int | None = None


def fingerprint_of(token: str) -> str:
    """Identifies a token without an id. The signature is not part of the fingerprint: anybody can turn a valid ECDSA
    signature (r, s) into a second one, (r, n - s), and would get a token that is not revoked."""
    return sha256(token.rpartition(".")[0].encode()).hexdigest()


def revocation_keys_of(principal: Principal) -> tuple[str, ...]:
    """The Redis keys of the entries that would revoke this principal's token: one for the subject, one for the
    token."""
    if not principal.revocation_keys:
        kind, name = revocable_name(principal)
        own = () if name is None else (revocation_key(kind, name, principal.issuer),)
        principal.revocation_keys = (revocation_key("sub", principal.subject, principal.issuer), *own)
    return principal.revocation_keys


def revocable_name(principal: Principal) -> tuple[Kind, str | None]:
    """The kind and the name of a revocation of this one token: its id, else its fingerprint."""
    return ("jti", principal.token_id) if principal.token_id is not None else ("token", principal.fingerprint)


def revocation_key(kind: Kind, name: str, issuer: str) -> str:
    # The key is hashed: a name of any length and content gives one short key, and no name can forge the key of another.
    text = f"{len(issuer)}:{issuer}{name}".encode("utf-8", "surrogatepass")
    return f"{PREFIX}{kind}:{blake2b(text, digest_size=16).hexdigest()}"


def revocation_reason(principal: Principal, values: Sequence[int | None]) -> str:
    """The reason why the token is refused, empty if it is not refused. `values` are the numbers stored under
    `revocation_keys_of`. A token without `iat` counts as issued before the revocation of its subject."""
    not_before, *of_token = values
    if any(value is not None for value in of_token):
        return TOKEN_REVOKED
    if not_before is None:
        return ""
    if principal.issued_at is None:
        return UNDATED_REVOKED
    return SUBJECT_REVOKED if principal.issued_at < not_before else ""


class Revocations:
    """Creates, removes and lists revocations. Each change is read back. Methods raise one of `redis.client.FAILURES` if
    Redis fails, and RevocationNotStored if a change is missing when it is read back.

    In a cluster every partition has all revocations, so that they can be read in one call with any caller's
    counters."""

    def __init__(self, redis: SharedRedis, keep_seconds: int) -> None:
        self._redis = redis
        self._keep_seconds = keep_seconds

    def revoke_token(self, name: str, issuer: str, until: int | None, kind: Kind = "jti") -> Revocation:
        """Revokes one token until it expires anyway, at `until` (seconds since 1970). If its expiry is not known, the
        token is revoked for the configured time."""
        now = time.time()
        if until is None:
            until = int(now) + self._keep_seconds
        # The seconds are rounded up: the token must not become valid again before it expires.
        self._store(revocation_key(kind, name, issuer), until, f"{issuer}\n{name}", max(1, until - int(now)))
        return Revocation(kind, name, issuer, until)

    def revoke_subject(self, subject: str, issuer: str) -> Revocation:
        """Revokes all tokens of a subject that were issued until now, including this second."""
        not_before = int(time.time()) + 1
        self._store(revocation_key("sub", subject, issuer), not_before, f"{issuer}\n{subject}", self._keep_seconds)
        return Revocation("sub", subject, issuer, not_before + self._keep_seconds, not_before)

    def remove(self, kind: Kind, name: str, issuer: str) -> bool:
        """Removes a revocation; returns whether it existed."""
        names = self._redis_keys(revocation_key(kind, name, issuer))
        deleted = [self._redis.run(name, "DEL", name) for name in names]
        if any(self._redis.run(name, "GET", name) is not None for name in names):
            raise RevocationNotStored("Redis still has the revocation")
        return any(deleted)

    def list_all(self) -> Iterator[Revocation]:
        """All revocations, in no order."""
        tag = self._redis.hash_tags.tags[0]
        for key in self._redis.scan(tag + PREFIX + "*"):
            value, left = self._redis.run(key, "GET", key), self._redis.run(key, "TTL", key)
            if not isinstance(value, bytes) or not isinstance(left, int):
                continue
            number, _, about = value.decode("utf-8", "replace").partition(" ")
            issuer, _, name = about.partition("\n")
            kind = key.removeprefix(tag + PREFIX).partition(":")[0]
            yield Revocation(kind, name, issuer, time.time() + left, int(number) if kind == "sub" else None)

    def _store(self, key: str, number: int, about: str, seconds: int) -> None:
        value = f"{number} {about}".encode("utf-8", "replace")
        failure: Exception | None = None
        names = self._redis_keys(key)
        for name in names:
            try:
                self._redis.run(name, "SET", name, value, "EX", seconds)
            except FAILURES as error:
                # If one node is down, the others refuse the token nevertheless. The operator can repeat the command.
                failure = error
        if failure is not None:
            raise failure
        # Only existence is checked, not the value: another command may have revoked the same token or subject
        # meanwhile.
        if any(self._redis.run(name, "GET", name) is None for name in names):
            raise RevocationNotStored("Redis accepted the revocation, but does not have it")

    def _redis_keys(self, key: str) -> list[str]:
        return [tag + key for tag in self._redis.hash_tags.tags]
