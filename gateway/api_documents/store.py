"""Documents in Redis, for all workers and gateways that share it: each is fetched by one of them at a time.

In a cluster all keys are in one partition, so that one call reads them all.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256

from gateway.api_documents.document_state import DocumentState
from gateway.redis.client import SharedRedis

PREFIX = "gateway:documents:"
# How long a document is remembered of which no gateway asks any more.
FORGOTTEN_AFTER_SECONDS = 7 * 86400


class DocumentStore:
    """Methods raise one of `redis.client.FAILURES` when Redis fails. `source` is a service with all that its document
    depends on, so that gateways with another configuration don't share it."""

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis
        self._prefix = redis.hash_tags.tags[0] + PREFIX

    def read(self, sources: Iterable[str]) -> dict[str, DocumentState]:
        """What is known of each source, as far as anything is."""
        names = list(sources)
        keys = [self._key("state", name) for name in names]
        texts = self._redis.run(keys[0], "MGET", *keys) if keys else []
        found = {}
        for name, text in zip(names, texts, strict=True):
            # Another version of the gateway may have kept something else.
            with suppress(ValueError, TypeError):
                if text is not None:
                    found[name] = DocumentState.from_json(text)
        return found

    def content(self, source: str, version: str, max_bytes: int) -> bytes | None:
        """The bytes of this version of a source; None where it is not the one that is there."""
        key = self._key("content", source)
        packed = self._redis.run(key, "GET", key)
        if packed is None:
            return None
        try:
            unpacking = zlib.decompressobj()
            # One more than there may be, as the end is not seen before it is asked for more.
            content = unpacking.decompress(packed, max_bytes + 1)
        except zlib.error:
            return None
        return content if unpacking.eof and sha256(content).hexdigest() == version else None

    def write(self, source: str, kept: DocumentState, content: bytes | None) -> None:
        """Keeps what is known of a source, and the bytes of its version where they are new: the last ones alone, as
        some services' documents are other ones each time."""
        if kept.version:
            key = self._key("content", source)
            if content is not None:
                self._redis.run(key, "SET", key, zlib.compress(content), "EX", FORGOTTEN_AFTER_SECONDS)
            else:
                self._redis.run(key, "EXPIRE", key, FORGOTTEN_AFTER_SECONDS)
        key = self._key("state", source)
        self._redis.run(key, "SET", key, kept.to_json(), "EX", FORGOTTEN_AFTER_SECONDS)

    def may_fetch(self, source: str, seconds: float) -> bool:
        """Whether this worker is the one to fetch now; for so long no other one is."""
        key = self._key("turn", source)
        return bool(self._redis.run(key, "SET", key, "1", "NX", "PX", int(seconds * 1000)))

    def may_renew(self, source: str, seconds: float) -> bool:
        """Whether this worker may fetch before the time; for so long no other one may."""
        key = self._key("renewal", source)
        return bool(self._redis.run(key, "SET", key, "1", "NX", "PX", max(1, int(seconds * 1000))))

    def has_fetched(self, source: str) -> None:
        key = self._key("turn", source)
        self._redis.run(key, "DEL", key)

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}{kind}:{name}"
