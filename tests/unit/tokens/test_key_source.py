"""A key set that is kept fresh by one thread, and asked by many.

The waits are as long as the test may last, unless it is about their end: whoever waits for something that does not come
is seen to hang, and nothing depends on how fast the machine is."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from jwt import PyJWK

from gateway.document_fetch import FetchError
from gateway.errors import InvalidToken, KeysUnavailable
from gateway.tokens import remote_jwks
from gateway.tokens.jwks import JwksKeySet, NoUsableKey
from gateway.tokens.remote_jwks import RemoteJwks
from tests.support.forging import segment

COOLDOWN = 30.0
FOR_EVER = 3600.0
FAILURES = [FetchError("down"), ValueError("garbage"), KeyError("kty"), TypeError(), RecursionError(), MemoryError()]


def a_key() -> PyJWK:
    return PyJWK({"kty": "oct", "k": segment(os.urandom(32))}, "HS256")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now


class Provider:
    """What is behind `load`: keys, a failure, or nothing as long as it hangs."""

    def __init__(self) -> None:
        self.keys: dict[str | None, PyJWK] = {"known": a_key()}
        self.failure: BaseException | None = None
        self.loads = 0
        self._may_answer = threading.Event()
        self._may_answer.set()

    def load(self) -> JwksKeySet:
        # As with a real one, what is answered is decided before the answer has arrived.
        keys = JwksKeySet({(kid, "HS256"): [key] for kid, key in self.keys.items()})
        failure = self.failure
        self.loads += 1
        self._may_answer.wait()
        if failure is not None:
            raise failure
        return keys

    def hang(self) -> None:
        self._may_answer.clear()

    def go_on(self) -> None:
        self._may_answer.set()


@pytest.fixture
def provider() -> Iterator[Provider]:
    one = Provider()
    yield one
    # Where refreshers that make no pauses come to rest.
    one.hang()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_LOAD_SECONDS", "UNKNOWN_KEY_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(remote_jwks, name, FOR_EVER)


@pytest.fixture
def keys(provider: Provider, clock: Clock) -> RemoteJwks:
    return fetched(provider, clock)


def fetched(
    provider: Provider, clock: Clock, refresh_seconds: float = FOR_EVER, cooldown_seconds: float = COOLDOWN
) -> RemoteJwks:
    return RemoteJwks("https://id.test", provider.load, refresh_seconds, cooldown_seconds, clock, lambda: 0.5)


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        # Pause between two polls; its length does not matter.
        time.sleep(0.002)


class Callers:
    """Requests that ask for keys, each in a thread of its own."""

    def __init__(self, keys: RemoteJwks) -> None:
        self._keys = keys

    def start(self, kid: str | None, algorithm: str = "HS256") -> Future[Any]:
        answer = Future[Any]()
        # Daemons: one that hangs fails its test, and does not keep the process from ending.
        threading.Thread(target=lambda: answer.set_result(outcome(self._keys, kid, algorithm)), daemon=True).start()
        return answer

    def ask(self, *kids: str | None) -> list[Any]:
        """The key for each of them, or what it is refused with; asked for at the same time."""
        started = [self.start(kid) for kid in kids]
        return [one.result(20) for one in started]


def outcome(keys: RemoteJwks, kid: str | None, algorithm: str = "HS256") -> Any:
    """The key, or why there is none."""
    try:
        found = keys.find(kid, algorithm)
        return found[0] if len(found) == 1 else list(found)
    except InvalidToken as refused:
        return refused.reason
    except KeysUnavailable:
        return "unavailable"


@pytest.fixture
def callers(keys: RemoteJwks, provider: Provider) -> Callers:
    return Callers(keys)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that change over as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# --- before there is any key


def test_all_who_come_before_the_first_load_wait_for_the_same_one(callers: Callers, provider: Provider) -> None:
    provider.hang()
    started = [callers.start("known") for _ in range(200)]
    eventually(lambda: provider.loads == 1)
    provider.go_on()
    assert {one.result(20) for one in started} == {provider.keys["known"]}
    assert provider.loads == 1


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_nobody_waits_any_more_once_the_first_load_has_failed(
    callers: Callers, keys: RemoteJwks, provider: Provider, failure: Exception
) -> None:
    provider.failure = failure
    assert callers.ask(*["known"] * 50) == ["unavailable"] * 50
    assert callers.ask(*["known"] * 50) == ["unavailable"] * 50
    assert provider.loads == 1
    assert not keys.is_ready
    assert keys.age_seconds is None


def test_nobody_waits_for_the_next_attempt_either(
    monkeypatch: pytest.MonkeyPatch, callers: Callers, provider: Provider
) -> None:
    monkeypatch.setattr(remote_jwks, "RETRY_SECONDS", 0.001)
    provider.failure = FetchError("down")
    assert callers.ask("known") == ["unavailable"]
    provider.hang()
    asked = provider.loads
    eventually(lambda: provider.loads > asked)
    assert callers.ask(*["known"] * 50) == ["unavailable"] * 50


def test_the_wait_for_an_issuer_that_hangs_ends_for_all_at_once(
    monkeypatch: pytest.MonkeyPatch, callers: Callers, provider: Provider, clock: Clock
) -> None:
    monkeypatch.setattr(remote_jwks, "FIRST_LOAD_SECONDS", 0.2)
    provider.hang()
    assert callers.ask(*["known"] * 50) == ["unavailable"] * 50
    # Who comes later has nothing left to wait for, however long one may.
    clock.now += FOR_EVER + 1
    monkeypatch.setattr(remote_jwks, "FIRST_LOAD_SECONDS", FOR_EVER)
    assert callers.ask(*["known"] * 50) == ["unavailable"] * 50
    assert provider.loads == 1


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_an_issuer_that_is_down_at_first_is_asked_until_it_is_up(
    monkeypatch: pytest.MonkeyPatch, callers: Callers, keys: RemoteJwks, provider: Provider, failure: Exception
) -> None:
    monkeypatch.setattr(remote_jwks, "RETRY_SECONDS", 0.001)
    provider.failure = failure
    assert not keys.is_ready
    eventually(lambda: provider.loads > 3)
    provider.failure = None
    eventually(lambda: keys.is_ready)
    assert callers.ask("known") == [provider.keys["known"]]


# --- key ids that are not known


def test_a_new_key_is_there_for_all_who_come_with_it(
    callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock
) -> None:
    """Right after a rotation a browser sends several requests at once: not only the first of them may pass."""
    callers.ask("known")
    provider.keys["new"] = a_key()
    provider.hang()
    looks = clock.looks
    started = [callers.start("new") for _ in range(50)]
    eventually(lambda: provider.loads == 2 and clock.looks >= looks + 50)
    provider.go_on()
    assert {one.result(20) for one in started} == {provider.keys["new"]}
    assert provider.loads == 2


def test_what_is_fetched_already_may_be_older_than_the_key_so_the_next_fetch_is_waited_for(
    callers: Callers, provider: Provider, clock: Clock
) -> None:
    callers.ask("known")
    provider.hang()
    first = callers.start("random")
    eventually(lambda: provider.loads == 2)
    provider.keys["new"] = a_key()
    clock.now += COOLDOWN
    looks = clock.looks
    second = callers.start("new")
    eventually(lambda: clock.looks > looks)
    provider.go_on()
    assert first.result(20) == "unknown_key"
    assert second.result(20) is provider.keys["new"]
    assert provider.loads == 3


def test_random_ids_cause_one_fetch_per_cooldown(callers: Callers, provider: Provider, clock: Clock) -> None:
    callers.ask("known")
    for fetches in (2, 3, 4):
        for _ in range(3):
            assert set(callers.ask(*(os.urandom(8).hex() for _ in range(100)))) == {"unknown_key"}
            assert provider.loads == fetches
        clock.now += COOLDOWN - 0.001
        assert callers.ask("random") == ["unknown_key"]
        assert provider.loads == fetches
        clock.now += 0.001


def test_the_wait_for_a_fetch_that_hangs_ends_for_all_at_once(
    monkeypatch: pytest.MonkeyPatch, provider: Provider, clock: Clock
) -> None:
    callers = Callers(fetched(provider, clock, cooldown_seconds=2 * FOR_EVER))
    callers.ask("known")
    provider.hang()
    monkeypatch.setattr(remote_jwks, "UNKNOWN_KEY_SECONDS", 0.2)
    assert callers.ask(*(f"random-{number}" for number in range(50))) == ["unknown_key"] * 50
    # Who comes later in the same cooldown has nothing left to wait for, however long one may.
    clock.now += FOR_EVER + 1
    monkeypatch.setattr(remote_jwks, "UNKNOWN_KEY_SECONDS", FOR_EVER)
    assert callers.ask(*(f"random-{number}" for number in range(50))) == ["unknown_key"] * 50
    assert provider.loads == 2


def test_known_keys_wait_for_nobody(callers: Callers, provider: Provider, clock: Clock) -> None:
    callers.ask("known")
    provider.hang()
    waiting = [callers.start(f"random-{number}") for number in range(50)]
    eventually(lambda: provider.loads == 2)
    for _ in range(3):
        assert callers.ask(*["known"] * 50) == [provider.keys["known"]] * 50
        clock.now += COOLDOWN
        waiting.append(callers.start("random"))
    provider.go_on()
    assert {one.result(20) for one in waiting} == {"unknown_key"}


def test_a_fetch_that_lasts_longer_than_the_cooldown_is_followed_by_one_more(
    callers: Callers, provider: Provider, clock: Clock
) -> None:
    callers.ask("known")
    provider.hang()
    waiting = [callers.start("random")]
    eventually(lambda: provider.loads == 2)
    for _ in range(5):
        clock.now += COOLDOWN
        looks = clock.looks
        waiting.append(callers.start("random"))
        eventually(lambda looks=looks: clock.looks > looks)  # type: ignore[misc]
    provider.go_on()
    assert {one.result(20) for one in waiting} == {"unknown_key"}
    assert provider.loads == 3


def test_a_known_key_with_another_algorithm_is_no_reason_to_fetch(callers: Callers, provider: Provider) -> None:
    callers.ask("known")
    for algorithm in ("none", "HS512", "RS256", ""):
        assert callers.start("known", algorithm).result(20) == "algorithm"
        assert callers.start(None, algorithm).result(20) == "algorithm"
    assert provider.loads == 1


def test_a_token_without_key_id_may_be_from_any_key(callers: Callers, provider: Provider, clock: Clock) -> None:
    assert callers.ask(None) == [provider.keys["known"]]
    # An empty id is that of keys without one.
    assert callers.ask("") == ["unknown_key"]
    provider.keys["new"] = a_key()
    clock.now += COOLDOWN
    assert callers.ask("new") == [provider.keys["new"]]
    assert callers.ask(None) == [[provider.keys["known"], provider.keys["new"]]]
    assert provider.loads == 3
    provider.keys[None] = a_key()
    clock.now += COOLDOWN
    assert callers.ask("") == [provider.keys[None]]


def test_a_new_key_of_tokens_without_an_id_is_fetched_once_per_cooldown(
    callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock
) -> None:
    tried = keys.find(None, "HS256")
    assert keys.find_new(None, "HS256", tried) == []
    assert provider.loads == 2
    provider.keys = {None: a_key()}
    for _ in range(50):
        assert keys.find_new(None, "HS256", tried) == []
    assert provider.loads == 2
    clock.now += COOLDOWN
    assert keys.find_new(None, "HS256", tried) == [provider.keys[None]]
    assert keys.find_new(None, "none", tried) == []
    assert provider.loads == 3


def test_no_waiter_misses_the_end_of_the_fetch(hasty_threads: None, provider: Provider, clock: Clock) -> None:
    """Refreshed without a pause, so that whoever asks meets it in every state that it can be in."""
    keys = fetched(provider, clock, refresh_seconds=1e-4)
    callers = Callers(keys)
    callers.ask("known")
    for number in range(300):
        provider.keys = {**provider.keys, f"new-{number}": a_key()}
        clock.now += COOLDOWN
        found = callers.ask(*[f"new-{number}"] * 3)
        assert found == [provider.keys[f"new-{number}"]] * 3, number


# --- keeping fresh


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_no_failure_ends_the_refreshing(
    callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock, failure: Exception
) -> None:
    callers.ask("known")
    provider.keys["new"] = a_key()
    provider.failure = failure
    assert callers.ask("new", "known") == ["unknown_key", provider.keys["known"]]
    provider.failure = None
    clock.now += COOLDOWN
    assert callers.ask("new") == [provider.keys["new"]]


def fail() -> None:
    raise LookupError


def test_a_listener_that_fails_does_not_end_the_refreshing(
    callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock
) -> None:
    callers.ask("known")
    keys.on_key_removed = fail
    provider.keys = {"second": a_key()}
    assert callers.ask("second") == [provider.keys["second"]]
    clock.now += COOLDOWN
    provider.keys["third"] = a_key()
    assert callers.ask("third") == [provider.keys["third"]]


def test_a_failure_is_logged_once_and_its_end_too(
    caplog: pytest.LogCaptureFixture, callers: Callers, provider: Provider, clock: Clock
) -> None:
    callers.ask("known")
    provider.failure = FetchError("status 500")
    for _ in range(3):
        callers.ask("random")
        clock.now += COOLDOWN
    provider.failure = None
    callers.ask("random")
    assert [record.getMessage() for record in caplog.records] == [
        "the keys of https://id.test can't be refreshed: status 500; the last known keys stay in use",
        "the keys of https://id.test are refreshed again",
    ]


def test_a_set_without_a_usable_key_is_believed_when_it_is_seen_for_the_second_time(
    caplog: pytest.LogCaptureFixture, callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock
) -> None:
    removed: list[object] = []
    keys.on_key_removed = lambda: removed.append(None)
    callers.ask("known")
    for failure, found in [
        (NoUsableKey("empty"), provider.keys["known"]),
        # That the issuer is down in between says nothing about its keys.
        (FetchError("down"), provider.keys["known"]),
        (NoUsableKey("empty"), "unknown_key"),
        (NoUsableKey("empty"), "unknown_key"),
    ]:
        provider.failure = failure
        callers.ask("random")
        assert callers.ask("known") == [found]
        assert keys.state == "failing"
        clock.now += COOLDOWN
    assert len(removed) == 1
    assert not keys.is_ready
    assert [record.getMessage() for record in caplog.records] == [
        "the keys of https://id.test can't be refreshed: empty; the last known keys stay in use",
        "https://id.test has withdrawn its keys (empty, twice); its tokens are refused",
    ]
    provider.failure = None
    assert callers.ask("known") == [provider.keys["known"]]
    assert keys.state == "ok"
    # Then it counts anew.
    clock.now += COOLDOWN
    provider.failure = NoUsableKey("empty")
    callers.ask("random")
    assert callers.ask("known") == [provider.keys["known"]]


def test_a_set_that_was_never_usable_is_no_key_but_not_an_outage_for_ever(
    monkeypatch: pytest.MonkeyPatch, callers: Callers, keys: RemoteJwks, provider: Provider
) -> None:
    monkeypatch.setattr(remote_jwks, "RETRY_SECONDS", 0.001)
    provider.failure = NoUsableKey("empty")
    assert callers.ask("known")[0] in ("unavailable", "unknown_key")
    eventually(lambda: provider.loads > 3)
    assert callers.ask("known") == ["unknown_key"]
    assert not keys.is_ready


def test_removed_and_replaced_keys_are_told_once_and_new_ones_are_not(
    callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock
) -> None:
    told: list[object] = []
    keys.on_key_removed = lambda: told.append(outcome(keys, "known"))
    callers.ask("known")
    provider.keys["new"] = a_key()
    callers.ask("new")
    assert told == []
    clock.now += COOLDOWN
    replaced = provider.keys["known"] = a_key()
    callers.ask("random")
    # When it is told, the old key is no longer found.
    assert told == [replaced]
    clock.now += COOLDOWN
    del provider.keys["new"]
    callers.ask("random")
    assert told == [replaced] * 2


def test_the_age_counts_from_the_last_load_that_worked(
    callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock
) -> None:
    callers.ask("known")
    clock.now += 100
    assert keys.age_seconds == 100
    provider.failure = FetchError("down")
    callers.ask("random")
    assert keys.age_seconds == 100
    clock.now += 100
    provider.failure = None
    callers.ask("random")
    assert keys.age_seconds == 0


def test_keys_are_not_seen_before_it_is_known_how_old_they_are(provider: Provider) -> None:
    seen: list[bool] = []

    def clock() -> float:
        if threading.current_thread().name.startswith("keys of"):
            seen.append(made[0].is_ready)
        return 1000.0

    made = [RemoteJwks("https://id.test", provider.load, FOR_EVER, COOLDOWN, clock, lambda: 0.5)]
    assert Callers(made[0]).ask("known") == [provider.keys["known"]]
    assert seen == [False]


def test_one_thread_refreshes_however_many_start_it(keys: RemoteJwks, provider: Provider) -> None:
    provider.hang()
    barrier = threading.Barrier(50)

    def start() -> None:
        barrier.wait()
        keys.start()

    starters = [threading.Thread(target=start) for _ in range(50)]
    for one in starters:
        one.start()
    for one in starters:
        one.join()
    eventually(lambda: provider.loads == 1)
    provider.go_on()
    eventually(lambda: keys.is_ready)
    assert provider.loads == 1


@pytest.mark.parametrize("state", ["idle", "fetching", "failed"])
def test_a_fork_begins_anew_with_the_keys_that_it_has(
    callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock, state: str
) -> None:
    callers.ask("known")
    clock.now += COOLDOWN
    if state == "failed":
        provider.failure = FetchError("down")
        callers.ask("random")
    if state == "fetching":
        provider.hang()
        callers.start("random")
        eventually(lambda: provider.loads == 2)
    child = os.fork()
    if child == 0:
        # Where it waits for a thread that it does not have.
        signal.alarm(10)
        try:
            provider.go_on()
            provider.failure = None
            provider.keys["new"] = a_key()
            clock.now += COOLDOWN
            known = outcome(keys, "known") is provider.keys["known"]
            os._exit(0 if known and outcome(keys, "new") is provider.keys["new"] else 3)
        finally:
            os._exit(4)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
