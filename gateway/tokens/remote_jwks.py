"""A JSON Web Key Set that is downloaded, and refreshed by a background thread.

While the issuer is down, the last known keys stay in use. A token with an unknown key id causes a refresh, at most once
per cooldown; requests that need the same refresh wait for it together. Finding a known key never waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Condition

from jwt import PyJWK

from gateway.document_fetch import FetchError
from gateway.errors import InvalidToken, KeysUnavailable
from gateway.system.threads import PerProcessThread
from gateway.tokens.jwks import JwksKeySet, NoUsableKey, is_among
from gateway.tokens.key_source import KeyState

# The longest time that requests wait for the first load, counted from its start, and for a refresh that was requested
# because of an unknown key id.
FIRST_LOAD_SECONDS = 2.0
UNKNOWN_KEY_SECONDS = 1.0
RETRY_SECONDS = 5.0

log = logging.getLogger(__name__)


class RemoteJwks:
    """A KeySource. `load` downloads and parses the key set, and may raise any exception; `name` is the issuer's, for
    the log; `clock` gives monotonic seconds, `jitter` numbers from 0 to 1."""

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
        self.on_key_removed: Callable[[], None] = lambda: None
        self._name = name
        self._load = load
        self._refresh_seconds = refresh_seconds
        self._cooldown_seconds = cooldown_seconds
        self._clock = clock
        self._jitter = jitter
        self._keys: JwksKeySet | None = None
        self._loaded_at = 0.0
        self._refused: Sequence[str] = ()
        self._times_empty = 0
        self._is_failing = False
        self._thread = PerProcessThread(f"keys of {name}", self._keep_fresh)
        self._started_at: float | None = None
        # Fetches are numbered, so that a request knows whether the fetch that it waits for is over.
        self._last_started = 0
        self._last_ended = 0
        self._awaited = 0
        self._requested_at: float | None = None
        # Guards the numbers. This lock is never held during a fetch, nor to find a known key.
        self._changed = Condition()

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
        def new_keys() -> list[PyJWK]:
            return [key for key in self._candidates(kid, algorithm) if not is_among(key, tried)]

        self._fetch_until(lambda: bool(new_keys()))
        return new_keys()

    def start(self) -> None:
        """Starts the background thread of this process, once. Not to be called before the process is forked."""
        if self._started_at is None:
            self._started_at = self._clock()
        self._thread.start()

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

    def _candidates(self, kid: str | None, algorithm: str) -> Sequence[PyJWK]:
        return self._keys.candidates(kid, algorithm) if self._keys is not None else ()

    def _wait_for_first_load(self) -> None:
        """Waits for the first attempt only: if the issuer is down, later requests must not all be delayed. Raises
        KeysUnavailable."""
        with self._changed:
            left = (self._started_at or 0.0) + FIRST_LOAD_SECONDS - self._clock()
            self._changed.wait_for(lambda: self._last_ended > 0, left)
        if self._keys is None:
            raise KeysUnavailable("the issuer's keys can't be loaded")

    def _fetch_until(self, is_found: Callable[[], bool]) -> None:
        """Requests a fetch, unless one was requested within the cooldown. Waits until `is_found` or the end of the
        fetch, but no longer than UNKNOWN_KEY_SECONDS after the fetch was requested."""
        with self._changed:
            now = self._clock()
            if self._requested_at is None or now - self._requested_at >= self._cooldown_seconds:
                self._requested_at = now
                # A fetch that has already started may have been answered before the key was published.
                self._awaited = self._last_started + 1
                self._changed.notify_all()
            left = self._requested_at + UNKNOWN_KEY_SECONDS - now
            self._changed.wait_for(lambda: self._last_ended >= self._awaited or is_found(), left)

    def _keep_fresh(self) -> None:
        while True:
            with self._changed:
                self._last_started += 1
            try:
                self._refresh()
            except Exception as error:
                # Every exception is caught: if it ended this thread, the keys would never be refreshed again.
                self._log_failure(error)
            with self._changed:
                self._last_ended = self._last_started
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._awaited > self._last_started, self._pause_seconds())

    def _pause_seconds(self) -> float:
        """Seconds until the next fetch: 80 to 100 % of `refresh_seconds`, or less after a failure."""
        if self._is_failing:
            return RETRY_SECONDS * (0.5 + self._jitter())
        return self._refresh_seconds * (0.8 + 0.2 * self._jitter())

    def _refresh(self) -> None:
        try:
            fresh = self._load()
        except NoUsableKey as error:
            self._count_empty(error)
            raise
        self._times_empty = 0
        self._replace(fresh)
        self._log_refused(fresh.refused)
        self._log_success()

    def _replace(self, fresh: JwksKeySet) -> None:
        known = self._keys
        # The time is set first: a thread that sees the new keys must not see the age of the old ones.
        self._loaded_at = self._clock()
        self._keys = fresh
        if known is not None and not fresh.has_all_of(known):
            self.on_key_removed()

    def _count_empty(self, error: NoUsableKey) -> None:
        """Counts consecutive key sets without a usable key. One may be a mistake of the issuer. After two, the issuer
        has withdrawn its keys, and the last known keys are dropped."""
        self._times_empty += 1
        if self._times_empty == 2:
            log.error("%s has withdrawn its keys (%s, twice); its tokens are refused", self._name, error)
            self._replace(JwksKeySet({}))

    def _log_refused(self, refused: Sequence[str]) -> None:
        """Logs which keys of the set are not used and why, unless the same was logged before."""
        if refused and refused != self._refused:
            log.warning("not all keys of %s are used: %s", self._name, "; ".join(refused))
        self._refused = refused

    def _log_failure(self, error: Exception) -> None:
        if not self._is_failing:
            is_expected = isinstance(error, FetchError | ValueError)
            text = "the keys of %s can't be refreshed: %s; the last known keys stay in use"
            log.error(text, self._name, error, exc_info=None if is_expected else error)
        self._is_failing = True

    def _log_success(self) -> None:
        if self._is_failing:
            log.warning("the keys of %s are refreshed again", self._name)
        self._is_failing = False
