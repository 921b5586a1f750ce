"""Where a token's key comes from: a fixed one, or a key set that is kept fresh in the background."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from threading import Condition, Thread
from typing import Literal, Protocol
from weakref import ref

from jwt import PyJWK

from gateway.document_fetch import FetchError
from gateway.errors import InvalidToken, KeysUnavailable
from gateway.tokens.jwks import JwksKeySet, NoUsableKey, is_among
from gateway.tokens.keys import KeySet

# How long requests wait for the first load, from its begin, and for the fetch that an unknown key id caused.
FIRST_LOAD_SECONDS = 2.0
UNKNOWN_KEY_SECONDS = 1.0
RETRY_SECONDS = 5.0

# `failing`: they could not be refreshed, those that are known are used on.
KeyState = Literal["fixed", "ok", "failing", "never loaded"]

log = logging.getLogger(__name__)


class KeySource(Protocol):
    # The key where there is but one for one algorithm, so that a token's header need not be asked.
    only_key: PyJWK | None
    # Told when a key is gone, so that nothing verified with it is remembered.
    on_key_removed: Callable[[], None]

    def find(self, kid: str | None, algorithm: str) -> Sequence[PyJWK]:
        """The keys that may have signed a token with this header: mostly one, never none. Raises InvalidToken, or
        KeysUnavailable where none was ever loaded."""

    def find_new(self, kid: str | None, algorithm: str, tried: Sequence[PyJWK]) -> Sequence[PyJWK]:
        """The keys that may have signed a token which none of those that were tried has signed, as far as a fetch
        brings any: without an id, a token of a new key can be told in no other way."""

    @property
    def age_seconds(self) -> float | None:
        """How old the keys are; None where they don't age or were never loaded."""

    @property
    def is_ready(self) -> bool: ...

    @property
    def state(self) -> KeyState:
        """How they are. Unlike `is_ready` it starts nothing."""


class FixedKeys:
    """The keys of a secret or a public-key file. A token's `kid` has no say."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys
        self.only_key = next(iter(keys.values())) if len(keys) == 1 else None
        self.on_key_removed: Callable[[], None] = lambda: None

    def find(self, kid: str | None, algorithm: str) -> Sequence[PyJWK]:  # noqa: ARG002 - one way to ask all sources
        key = self._keys.get(algorithm)
        if key is None:
            raise InvalidToken("the token's algorithm is not accepted", "algorithm")
        return (key,)

    def find_new(self, kid: str | None, algorithm: str, tried: Sequence[PyJWK]) -> Sequence[PyJWK]:  # noqa: ARG002 - the same
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


class RemoteJwks:
    """A key set that one thread of the worker refreshes before it gets old, and at most once per cooldown for key ids
    that it does not have. While its issuer is down, the known keys go on verifying; they are found without waiting for
    anything.

    `load` fetches and reads the set, and may raise; `clock` is monotonic seconds; `jitter` gives numbers from 0 to 1;
    `on_key_removed` is told when a known key is gone and can't be found any more."""

    def __init__(
        self,
        name: str,
        load: Callable[[], JwksKeySet],
        refresh_seconds: float,
        cooldown_seconds: float,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.only_key: PyJWK | None = None
        self._name = name
        self._load = load
        self._refresh_seconds = refresh_seconds
        self._cooldown_seconds = cooldown_seconds
        self._clock = clock
        self._jitter = jitter
        self.on_key_removed: Callable[[], None] = lambda: None
        self._keys: JwksKeySet | None = None
        self._loaded_at = 0.0
        self._refused: Sequence[str] = ()
        self._times_empty = 0
        self._is_failing = False
        self._thread: Thread | None = None
        self._started_at = 0.0
        # Fetches are numbered: whoever waits knows by the numbers whether the one that concerns them is over.
        self._begun = 0
        self._ended = 0
        self._awaited = 0
        self._asked_at: float | None = None
        # Guards the numbers and what belongs to them. Never held while fetching, nor to find a known key.
        self._changed = Condition()
        restart_after_fork(self)

    def find(self, kid: str | None, algorithm: str) -> Sequence[PyJWK]:
        self.start()
        if self._keys is None:
            self._wait_for_first_load()
        if not self._has_id(kid):
            self._fetch_until(lambda: self._has_id(kid))
            if not self._has_id(kid):
                raise InvalidToken("the token's key is not known", "unknown_key")
        keys = self._candidates(kid, algorithm)
        if not keys:
            raise InvalidToken("the token's algorithm is not accepted", "algorithm")
        return keys

    def find_new(self, kid: str | None, algorithm: str, tried: Sequence[PyJWK]) -> Sequence[PyJWK]:
        def found() -> list[PyJWK]:
            return [key for key in self._candidates(kid, algorithm) if not is_among(key, tried)]

        self._fetch_until(lambda: bool(found()))
        return found()

    def start(self) -> None:
        """Starts the refresher of this process, once; not before it is forked."""
        if self._thread is not None:
            return
        with self._changed:
            if self._thread is None:
                thread = Thread(target=self._keep_fresh, name=f"keys of {self._name}", daemon=True)
                self._started_at = self._clock()
                thread.start()
                # Only now: where no thread can be had, the next request tries again.
                self._thread = thread

    def restart_in_child(self) -> None:
        """After a fork: the thread stayed with the parent, and so did whoever held the condition."""
        self._thread = None
        self._changed = Condition()

    @property
    def age_seconds(self) -> float | None:
        return None if self._keys is None else self._clock() - self._loaded_at

    @property
    def is_ready(self) -> bool:
        self.start()
        return self._keys is not None and self._keys.has_id(None)

    @property
    def state(self) -> KeyState:
        if self._is_failing:
            return "failing"
        return "never loaded" if self._keys is None else "ok"

    def _has_id(self, kid: str | None) -> bool:
        return self._keys is not None and self._keys.has_id(kid)

    def _wait_for_first_load(self) -> None:
        """While the first attempt is under way, and only so long after its begin. When it has failed nobody waits for
        the next ones: an issuer that is down must not hold up every request. Raises KeysUnavailable."""
        with self._changed:
            left = self._started_at + FIRST_LOAD_SECONDS - self._clock()
            self._changed.wait_for(lambda: self._ended > 0, left)
        if self._keys is None:
            raise KeysUnavailable("the issuer's keys can't be loaded")

    def _candidates(self, kid: str | None, algorithm: str) -> Sequence[PyJWK]:
        return self._keys.candidates(kid, algorithm) if self._keys is not None else ()

    def _fetch_until(self, is_there: Callable[[], bool]) -> None:
        """Has the keys fetched for a key that is not known: once per cooldown, whichever it is. All who come meanwhile
        wait for the same fetch until the key is there, and nobody longer than UNKNOWN_KEY_SECONDS from when it was
        asked for."""
        with self._changed:
            now = self._clock()
            if self._asked_at is None or now - self._asked_at >= self._cooldown_seconds:
                self._asked_at = now
                # Not the one that may be under way: it can have been answered before the key was published.
                self._awaited = self._begun + 1
                self._changed.notify_all()
            left = self._asked_at + UNKNOWN_KEY_SECONDS - now
            self._changed.wait_for(lambda: self._ended >= self._awaited or is_there(), left)

    def _keep_fresh(self) -> None:
        while True:
            with self._changed:
                self._begun += 1
            try:
                self._refresh()
            except Exception as error:
                # Whatever it was: without this thread the keys would stay as they are for ever.
                self._tell(error)
            with self._changed:
                self._ended = self._begun
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._awaited > self._begun, self._pause_seconds())

    def _pause_seconds(self) -> float:
        """Until the next fetch: in the last fifth of the time that the keys are good for, or soon after a failure."""
        if self._is_failing:
            return RETRY_SECONDS * (0.5 + self._jitter())
        return self._refresh_seconds * (0.8 + 0.2 * self._jitter())

    def _refresh(self) -> None:
        try:
            fresh = self._load()
        except NoUsableKey as error:
            self._see_empty(error)
            raise
        self._times_empty = 0
        self._replace(fresh)
        self._tell_refused(fresh.refused)
        self._tell(None)

    def _replace(self, fresh: JwksKeySet) -> None:
        known = self._keys
        # First the time: whoever sees the keys must see how old they are.
        self._loaded_at = self._clock()
        self._keys = fresh
        if known is not None and not fresh.has_all_of(known):
            self.on_key_removed()

    def _see_empty(self, error: NoUsableKey) -> None:
        """A set without a usable key may be an issuer's slip, so it is believed when it is seen for the second time:
        then its keys are withdrawn, and verify nothing any more."""
        self._times_empty += 1
        if self._times_empty == 2:
            log.error("the keys of %s are gone: %s, for the second time; its tokens are refused", self._name, error)
            self._replace(JwksKeySet({}))

    def _tell_refused(self, refused: Sequence[str]) -> None:
        """Logs which keys are not used, and why, whenever that has changed."""
        if refused and refused != self._refused:
            log.warning("not all keys of %s are used: %s", self._name, "; ".join(refused))
        self._refused = refused

    def _tell(self, error: Exception | None) -> None:
        """Logs once when the keys can't be refreshed any more, and when they can again."""
        if error is not None and not self._is_failing:
            is_expected = isinstance(error, FetchError | ValueError)
            text = "the keys of %s can't be refreshed: %s; the known ones stay"
            log.error(text, self._name, error, exc_info=None if is_expected else error)
        elif error is None and self._is_failing:
            log.warning("the keys of %s are fresh again", self._name)
        self._is_failing = error is not None


def restart_after_fork(keys: RemoteJwks) -> None:
    # Such a hook can't be taken back, so it must not keep what it is for alive.
    reference = ref(keys)

    def restart() -> None:
        if (alive := reference()) is not None:
            alive.restart_in_child()

    os.register_at_fork(after_in_child=restart)
