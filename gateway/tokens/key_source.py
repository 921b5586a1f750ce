"""Where a token's key comes from: a fixed one, or a key set that is kept fresh in the background."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from threading import Event, Lock, Thread
from typing import Protocol

from jwt import PyJWK

from gateway.errors import InvalidToken, KeysUnavailable
from gateway.fetching import FetchError
from gateway.tokens.jwks import JwksKeySet
from gateway.tokens.keys import KeySet

# How long a request waits for keys that have never been loaded, or for the one fetch that its unknown key id caused.
FIRST_LOAD_SECONDS = 2.0
UNKNOWN_KEY_SECONDS = 1.0
RETRY_SECONDS = 5.0

log = logging.getLogger(__name__)


class KeySource(Protocol):
    # The key where there is but one for one algorithm, so that a token's header need not be asked.
    only_key: PyJWK | None
    # Told when a key is gone, so that nothing verified with it is remembered.
    when_removed: Callable[[], None]

    def find(self, kid: str | None, algorithm: str) -> PyJWK:
        """The key for a token's header. Raises InvalidToken, or KeysUnavailable where none was ever loaded."""

    @property
    def age_seconds(self) -> float | None:
        """How old the keys are; None where they don't age or were never loaded."""

    @property
    def is_ready(self) -> bool: ...


class FixedKeys:
    """The keys of a secret or a public-key file. A token's `kid` has no say."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys
        self.only_key = next(iter(keys.values())) if len(keys) == 1 else None
        self.when_removed: Callable[[], None] = lambda: None

    def find(self, kid: str | None, algorithm: str) -> PyJWK:  # noqa: ARG002 - one way to ask all sources
        key = self._keys.get(algorithm)
        if key is None:
            raise InvalidToken("the token's algorithm is not accepted", "algorithm")
        return key

    @property
    def age_seconds(self) -> float | None:
        return None

    @property
    def is_ready(self) -> bool:
        return True


class FetchedKeys:
    """A key set that one thread of the worker refreshes before it gets old, and at most once per cooldown for key ids
    that it does not have. While its issuer is down, the known keys go on verifying.

    `load` fetches and reads the set, and may raise FetchError or ValueError; `clock` is monotonic seconds; `jitter`
    gives numbers from 0 to 1; `when_removed` is told when a known key is gone."""

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
        self.when_removed: Callable[[], None] = lambda: None
        self._keys: JwksKeySet | None = None
        self._loaded_at = 0.0
        self._asked_at: float | None = None
        self._is_failing = False
        self._lock = Lock()
        self._thread: Thread | None = None
        self._wanted = Event()
        # A new event for each fetch: whoever waits, waits for the fetch that was under way or yet to come.
        self._done = Event()

    def find(self, kid: str | None, algorithm: str) -> PyJWK:
        self.start()
        if self._keys is None:
            self._done.wait(FIRST_LOAD_SECONDS)
            if self._keys is None:
                raise KeysUnavailable("the issuer's keys can't be loaded")
        key = self._known(kid, algorithm)
        if key is None and self._may_ask():
            done = self._done
            self._wanted.set()
            done.wait(UNKNOWN_KEY_SECONDS)
            key = self._known(kid, algorithm)
        if key is None:
            raise InvalidToken("the token's key is not known", "unknown_key")
        return key

    def start(self) -> None:
        """Starts the refresher of this process, once; not before it is forked."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._keep_fresh, name=f"keys of {self._name}", daemon=True)
                self._thread.start()

    @property
    def age_seconds(self) -> float | None:
        return None if self._keys is None else self._clock() - self._loaded_at

    @property
    def is_ready(self) -> bool:
        self.start()
        return self._keys is not None

    def _known(self, kid: str | None, algorithm: str) -> PyJWK | None:
        keys = self._keys or {}
        if kid is None and len(keys) == 1:
            # Nothing to choose from (RFC 7515 4.1.4: kid is a hint).
            return next(iter(keys.values())).get(algorithm)
        return keys.get(kid, NO_KEYS).get(algorithm)

    def _may_ask(self) -> bool:
        """Whether an unknown key id may cause a fetch now: once per cooldown, whatever the ids."""
        with self._lock:
            now = self._clock()
            if self._asked_at is not None and now - self._asked_at < self._cooldown_seconds:
                return False
            self._asked_at = now
            return True

    def _keep_fresh(self) -> None:
        while True:
            self._wanted.clear()
            self._refresh()
            done, self._done = self._done, Event()
            done.set()
            self._wanted.wait(self._pause_seconds())

    def _pause_seconds(self) -> float:
        """Until the next fetch: in the last fifth of the time that the keys are good for, or soon after a failure."""
        if self._is_failing:
            return RETRY_SECONDS * (0.5 + self._jitter())
        return self._refresh_seconds * (0.8 + 0.2 * self._jitter())

    def _refresh(self) -> None:
        try:
            fresh = self._load()
        except (FetchError, ValueError) as error:
            if not self._is_failing:
                log.error("the keys of %s can't be refreshed: %s; the known ones stay", self._name, error)
            self._is_failing = True
            return
        if self._is_failing:
            log.warning("the keys of %s are fresh again", self._name)
        self._is_failing = False
        removed = self._keys is not None and any(is_gone(kid, key, fresh) for kid, key in self._keys.items())
        self._keys, self._loaded_at = fresh, self._clock()
        if removed:
            self.when_removed()


NO_KEYS: Mapping[str, PyJWK] = {}


def is_gone(kid: str | None, keys: Mapping[str, PyJWK], fresh: JwksKeySet) -> bool:
    """Whether a key is no longer in the set, or another one is there under its id."""
    now = fresh.get(kid, NO_KEYS)
    return any(name not in now or now[name].key != key.key for name, key in keys.items())
