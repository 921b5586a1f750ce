"""Stores documents in Redis for all workers and gateways that share it.

In a cluster all keys are in one hash slot, so that one call reads them all.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256

from gateway.api_documents.document_state import DocumentState
from gateway.redis.client import SharedRedis

PREFIX = "gateway:documents:"
# How long a document stays in Redis after its last refresh by any gateway.
EXPIRE_SECONDS = 7 * 86400


class DocumentStore:
    """The documents, their states, and the locks and cooldowns of their fetches. `source` is the key of a service's
    source, which differs between gateways with different configurations. All methods raise one of
    `redis.client.FAILURES` if Redis fails."""

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis
        self._prefix = redis.hash_tags.tags[0] + PREFIX

    def read(self, sources: Iterable[str]) -> dict[str, DocumentState]:
        """The stored state of each source that has one."""
        names = list(sources)
        keys = [self._key("state", name) for name in names]
        texts = self._redis.run(keys[0], "MGET", *keys) if keys else []
        states = {}
        for name, text in zip(names, texts, strict=True):
            # Ignores what another version of the gateway may have stored.
            with suppress(ValueError, TypeError):
                if text is not None:
                    states[name] = DocumentState.from_json(text)
        return states

    def content(self, source: str, version: str, max_bytes: int) -> bytes | None:
        """The document of this version; None if Redis has no document, another version, or one that is
        longer than `max_bytes`."""
        key = self._key("content", source)
        packed = self._redis.run(key, "GET", key)
        if packed is None:
            return None
        try:
            decompressor = zlib.decompressobj()
            # One byte more than allowed: zlib reports the end of the data only when it is asked for more.
            content = decompressor.decompress(packed, max_bytes + 1)
        except zlib.error:
            return None
        return content if decompressor.eof and sha256(content).hexdigest() == version else None

    def write(self, source: str, state: DocumentState, content: bytes | None) -> None:
        """Stores the state, and the content if it is new. Only the last content is stored, because some services'
        documents differ each time."""
        if state.version:
            key = self._key("content", source)
            if content is not None:
                self._redis.run(key, "SET", key, zlib.compress(content), "EX", EXPIRE_SECONDS)
            else:
                self._redis.run(key, "EXPIRE", key, EXPIRE_SECONDS)
        key = self._key("state", source)
        self._redis.run(key, "SET", key, state.to_json(), "EX", EXPIRE_SECONDS)

    def lock_fetch(self, source: str, seconds: float) -> bool:
        """Locks the fetch for at most this time; False if another worker holds the lock."""
        return self._set_if_absent(self._key("turn", source), seconds)

    def unlock_fetch(self, source: str) -> None:
        key = self._key("turn", source)
        self._redis.run(key, "DEL", key)

    def begin_cooldown(self, source: str, seconds: float) -> bool:
        """Begins the cooldown of an early refresh; False if a cooldown is running."""
        return self._set_if_absent(self._key("renewal", source), seconds)

    def _set_if_absent(self, key: str, seconds: float) -> bool:
        return bool(self._redis.run(key, "SET", key, "1", "NX", "PX", max(1, int(seconds * 1000))))

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}{kind}:{name}"
