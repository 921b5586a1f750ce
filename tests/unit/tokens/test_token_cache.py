"""The token cache: an entry ends when its key is withdrawn or its token expires, and the size of the cache is
bounded."""

from __future__ import annotations

import gc
import json
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

import gevent
import pytest
from jwt import PyJWK

from gateway.config import JwtSettings
from gateway.errors import InvalidToken
from gateway.tokens import remote_jwks
from gateway.tokens.issuer import Issuer
from gateway.tokens.jwks import JwksKeySet
from gateway.tokens.principal import Principal
from gateway.tokens.remote_jwks import RemoteJwks
from gateway.tokens.revocation import revocation_keys_of
from gateway.tokens.verifier import Verifier
from tests.support.forging import HS256, sealed, segment

NOW = 1_000_000_000.0
CACHE_SIZE = 20
COOLDOWN = 30.0


class Keys:
    """A RemoteJwks whose key set a test changes. `publish` waits until the new set is in use."""

    def __init__(self) -> None:
        self._secrets: dict[str, bytes] = {}
        self._now = 1000.0
        self.source = RemoteJwks("issuer", self._load, 3600, COOLDOWN, lambda: self._now, lambda: 0.5)

    def publish(self, *kids: str) -> None:
        self._secrets = {kid: self._secrets.get(kid) or os.urandom(32) for kid in (*kids, "always")}
        # After the cooldown, an unknown id causes a fetch.
        self._now += COOLDOWN
        with pytest.raises(InvalidToken):
            self.source.find("not there", "HS256")

    def token(self, kid: str, sub: str = "ada", exp: float = NOW + 3600, claims: Mapping[str, Any] = {}) -> str:
        return sealed({**HS256, "kid": kid}, {"sub": sub, "exp": exp, **claims}, self._secrets[kid])

    def _load(self) -> JwksKeySet:
        return JwksKeySet(
            {
                (kid, "HS256"): [PyJWK({"kty": "oct", "k": segment(secret)}, "HS256")]
                for kid, secret in self._secrets.items()
            }
        )


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Keys:
    # With long timeouts `publish` waits until the set is in use, also on a slow machine.
    for name in ("FIRST_LOAD_SECONDS", "UNKNOWN_KEY_SECONDS"):
        monkeypatch.setattr(remote_jwks, name, 3600.0)
    return Keys()


def verifier(keys: Keys, clock: Callable[[], float] = lambda: NOW) -> Verifier:
    settings = JwtSettings(cache_size=CACHE_SIZE)
    made = Verifier(settings, [Issuer(settings, keys.source, settings.required_claims)], clock)
    keys.source.on_key_removed = made.clear_cache
    return made


def outcome(by: Verifier, token: str) -> Any:
    try:
        return by.principal(token)
    except InvalidToken as refused:
        return refused.reason


def test_tokens_of_a_removed_key_are_refused_and_others_stay_valid(keys: Keys) -> None:
    keys.publish("old", "new")
    by = verifier(keys)
    old, new = keys.token("old"), keys.token("new")
    assert outcome(by, old) is by.principal(old)
    keys.publish("new")
    assert outcome(by, old) == "unknown_key"
    assert isinstance(outcome(by, new), Principal)


def test_tokens_of_a_key_that_was_replaced_under_its_id_are_refused(keys: Keys) -> None:
    keys.publish("one")
    by = verifier(keys)
    token = keys.token("one")
    by.principal(token)
    keys.publish()
    keys.publish("one")
    assert outcome(by, token) == "signature"


def test_a_token_verified_while_its_key_is_removed_is_not_cached(keys: Keys) -> None:
    """The verifier reads the clock after it has checked the signature and before it stores the principal: the key is
    removed at that moment."""
    keys.publish("old")
    removals: list[str] = []

    def clock() -> float:
        if not removals:
            removals.append("old")
            keys.publish()
        return NOW

    by = verifier(keys, clock)
    token = keys.token("old")
    # The token is accepted once, as it was valid when it arrived.
    assert isinstance(outcome(by, token), Principal)
    assert removals == ["old"]
    assert outcome(by, token) == "unknown_key"


def test_no_thread_caches_a_token_of_a_removed_key(frequent_thread_switches: None, keys: Keys) -> None:
    by = verifier(keys)
    failures: list[object] = []
    for number in range(40):
        kid = f"key-{number}"
        keys.publish(kid)
        tokens = [keys.token(kid, f"caller-{caller}") for caller in range(10)]
        is_removed = threading.Event()

        def call(tokens: list[str] = tokens, is_removed: threading.Event = is_removed) -> None:
            was_over = False
            while not was_over:
                was_over = is_removed.is_set()
                for token in tokens:
                    found = outcome(by, token)
                    if found == "signature" or (was_over and isinstance(found, Principal)):
                        failures.append(found)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        keys.publish()
        is_removed.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_the_cache_is_bounded_with_many_greenlets(keys: Keys) -> None:
    keys.publish("one")
    by = verifier(keys)
    callers = count()
    failures: list[object] = []

    def flood() -> None:
        for _ in range(200):
            sub = f"caller-{next(callers)}"
            found = outcome(by, keys.token("one", sub))
            if not isinstance(found, Principal) or found.subject != sub:
                failures.append(found)

    gevent.joinall([gevent.spawn(flood) for _ in range(8)])
    assert failures == []
    assert len(by._cache) <= CACHE_SIZE
    by.principal(keys.token("one", "last"))
    assert len(by._cache) <= CACHE_SIZE


def test_no_thread_gets_an_expired_token(frequent_thread_switches: None, keys: Keys) -> None:
    keys.publish("one")
    now = NOW
    by = verifier(keys, lambda: now)
    token = keys.token("one", exp=NOW + 10)
    failures: list[object] = []

    def call() -> None:
        for _ in range(300):
            is_over = now >= NOW + 10 + 5
            found = outcome(by, token)
            if found == "expired" and now < NOW + 10 + 5:
                failures.append(found)
            if is_over and found != "expired":
                failures.append(found)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    now = NOW + 9.999
    now = NOW + 15
    for thread in threads:
        thread.join()
    assert outcome(by, token) == "expired"
    assert failures == []


# Claims that are small in a token but large in memory, and the reverse. Each fills a token of about 8 KiB.
LARGE_CLAIMS: dict[str, Any] = {
    "one text": "x" * 5900,
    "texts": [f"group-{number:05}" for number in range(390)],
    "short texts": ["ab"] * 1000,
    "empty objects": [{}] * 1400,
    "empty lists": [[]] * 1400,
    "numbers": list(range(1000, 1950)),
    "names": {f"n{number}": True for number in range(420)},
    "nested": json.loads("[" * 400 + "]" * 400),
}


def memory_used(work: Callable[[], None]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("large", LARGE_CLAIMS.values(), ids=LARGE_CLAIMS)
def test_memory_is_bounded(keys: Keys, large: Any) -> None:
    by = bounded(keys, CACHE_BYTES)
    tokens = many_tokens(keys, large, MORE_THAN_FIT)
    used = memory_used(lambda: use_all(by, tokens))
    # When the cache is full by its own count, the memory in use is near the limit.
    assert 0.5 * CACHE_BYTES < used < 1.1 * CACHE_BYTES
    assert 0 < len(by._cache) < MANY


def test_ordinary_tokens_are_all_cached(keys: Keys) -> None:
    by = bounded(keys, CACHE_BYTES)
    tokens = many_tokens(keys, ["read", "write"], MANY)
    used = memory_used(lambda: use_all(by, tokens))
    assert len(by._cache) == MANY
    assert 0.5 * by._cache._bytes < used < 1.1 * by._cache._bytes


def test_a_token_larger_than_the_cache_is_not_cached(keys: Keys) -> None:
    keys.publish("one")
    by = bounded(keys, 65536)
    small, large = keys.token("one"), keys.token("one", claims={"large": [{}] * 1400})
    first = by.principal(small)
    assert by.principal(large) is not by.principal(large)
    assert by.principal(small) is first


def test_signed_tokens_count_while_their_principal_is_cached(keys: Keys) -> None:
    keys.publish("one")
    by = bounded(keys, 65536)
    ada, bob = (by.principal(keys.token("one", name)) for name in ("ada", "bob"))
    by.add_signed_bytes(ada, 60_000)
    assert by.principal(keys.token("one", "bob")) is bob
    by.add_signed_bytes(bob, 60_000)
    # Ada's entry is the oldest, so it is dropped first, and all its bytes are subtracted.
    assert by.principal(keys.token("one", "bob")) is bob
    assert by.principal(keys.token("one", "ada")) is not ada
    before = by._cache._bytes
    by.add_signed_bytes(ada, 60_000)
    assert by._cache._bytes == before


def test_dropped_entries_are_not_counted(keys: Keys) -> None:
    keys.publish("one")
    now = NOW
    by = verifier(keys, lambda: now)
    token = keys.token("one", exp=NOW + 10)
    by.principal(token)
    counted = by._cache._bytes
    now = NOW + 11
    by.principal(token)
    assert (len(by._cache), by._cache._bytes) == (1, counted)
    by.clear_cache()
    assert (len(by._cache), by._cache._bytes) == (0, 0)


CACHE_BYTES = 1 << 20
MANY = 400
# So many large tokens don't fit: each takes more than CACHE_BYTES / 200 as text or in memory.
MORE_THAN_FIT = 200


def bounded(keys: Keys, max_bytes: int) -> Verifier:
    settings = JwtSettings(cache_max_bytes=max_bytes)
    return Verifier(settings, [Issuer(settings, keys.source, settings.required_claims)], lambda: NOW)


def many_tokens(keys: Keys, large: Any, number: int) -> list[str]:
    keys.publish("one")
    tokens = [keys.token("one", f"caller-{index}", claims={"large": large}) for index in range(number)]
    assert max(map(len, tokens)) <= 8192
    return tokens


def use_all(by: Verifier, tokens: Iterable[str]) -> None:
    for token in tokens:
        # Each request does this. It stores the revocation keys in the principal, which uses more memory.
        revocation_keys_of(by.principal(token))
