"""The interface of a source of an issuer's verification keys, and the source whose keys never change: a secret or a
public-key file.

`remote_jwks` has the other source, a key set that is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from jwt import PyJWK

from gateway.errors import InvalidToken
from gateway.tokens.keys import KeySet

# `failing`: the keys can't be refreshed; the last known ones stay in use.
KeyState = Literal["fixed", "ok", "failing", "never loaded"]


class KeySource(Protocol):
    # Set if there is only one key, for one algorithm: then a token's header need not be read to find the key.
    only_key: PyJWK | None
    # Called when a key is withdrawn, so that tokens verified with it do not stay in the cache.
    on_key_removed: Callable[[], None]

    def find(self, kid: str | None, algorithm: str) -> Sequence[PyJWK]:
        """The keys that may have signed a token with this header: usually one, never none. Raises InvalidToken, or
        KeysUnavailable if no keys were ever loaded."""

    def find_new(self, kid: str | None, algorithm: str, tried: Sequence[PyJWK]) -> Sequence[PyJWK]:
        """Fetches the keys again and returns those that are not in `tried`. For a token without a kid that none of
        `tried` has signed: it may have been signed with a new key."""

    @property
    def age_seconds(self) -> float | None:
        """Seconds since the keys were loaded; None for fixed keys, and before the first load."""

    @property
    def is_ready(self) -> bool:
        """Whether there is a key. Starts the first load."""

    @property
    def state(self) -> KeyState:
        """Whether the keys can be loaded. Unlike `is_ready`, this property does not start the first load."""


class FixedKeys:
    """The keys of a secret or a public-key file. A token's `kid` is ignored."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys
        self.only_key = next(iter(keys.values())) if len(keys) == 1 else None
        self.on_key_removed: Callable[[], None] = lambda: None

    def find(self, kid: str | None, algorithm: str) -> Sequence[PyJWK]:  # noqa: ARG002 - as the protocol says
        key = self._keys.get(algorithm)
        if key is None:
            raise InvalidToken("the token's algorithm is not accepted", "algorithm")
        return (key,)

    def find_new(self, kid: str | None, algorithm: str, tried: Sequence[PyJWK]) -> Sequence[PyJWK]:  # noqa: ARG002 - as the protocol says
        return ()

    @property
    def age_seconds(self) -> float | None:
        return None

    @property
    def is_ready(self) -> bool:
        return True

    @property
    def state(self) -> KeyState:
        return "fixed"
