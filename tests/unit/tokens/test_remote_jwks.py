"""RemoteJwks: one thread refreshes the key set, many threads use it.

Timeouts are longer than any test, unless the test is about the end of a timeout. So a caller that waits in vain makes
the test hang, and no test depends on the speed of the machine.
"""

from __future__ import annotations

import os
import signal
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
FOREVER = 3600.0
FAILURES = [FetchError("down"), ValueError("garbage"), KeyError("kty"), TypeError(), RecursionError(), MemoryError()]


def a_key() -> PyJWK:
    return PyJWK({"kty": "oct", "k": segment(os.urandom(32))}, "HS256")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now


class Provider:
    """The function `load` of a RemoteJwks. It returns keys, raises a failure, or hangs."""

    def __init__(self) -> None:
        self.keys: dict[str | None, PyJWK] = {"known": a_key()}
        self.failure: BaseException | None = None
        self.loads = 0
        self._may_answer = threading.Event()
        self._may_answer.set()

    def load(self) -> JwksKeySet:
        # The keys are chosen when the request arrives and not when the response is sent, as with a real issuer.
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
    # Blocks background threads that refresh without pauses, so that they use no more CPU time.
    one.hang()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def waits_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_LOAD_SECONDS", "UNKNOWN_KEY_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(remote_jwks, name, FOREVER)


@pytest.fixture
def keys(provider: Provider, clock: Clock) -> RemoteJwks:
    return remote_jwks_of(provider, clock)


def remote_jwks_of(
    provider: Provider, clock: Clock, refresh_seconds: float = FOREVER, cooldown_seconds: float = COOLDOWN
) -> RemoteJwks:
    return RemoteJwks("https://id.test", provider.load, refresh_seconds, cooldown_seconds, clock, lambda: 0.5)


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        # The pause between two polls; its length does not matter.
        time.sleep(0.002)


class Callers:
    """Requests keys, each in its own thread."""

    def __init__(self, keys: RemoteJwks) -> None:
        self._keys = keys

    def start(self, kid: str | None, algorithm: str = "HS256") -> Future[Any]:
        answer = Future[Any]()
        # The thread is a daemon: if it hangs, the test fails but the process can end.
        threading.Thread(target=lambda: answer.set_result(outcome(self._keys, kid, algorithm)), daemon=True).start()
        return answer

    def ask(self, *kids: str | None) -> list[Any]:
        """Requests all keys at the same time. Returns for each kid the key, or the reason of the refusal."""
        started = [self.start(kid) for kid in kids]
        return [one.result(20) for one in started]


def outcome(keys: RemoteJwks, kid: str | None, algorithm: str = "HS256") -> Any:
    """Returns the key, or the reason why there is none."""
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


# --- before the first load


def test_all_callers_before_the_first_load_wait_for_it(callers: Callers, provider: Provider) -> None:
    provider.hang()
    started = [callers.start("known") for _ in range(200)]
    eventually(lambda: provider.loads == 1)
    provider.go_on()
    assert {one.result(20) for one in started} == {provider.keys["known"]}
    assert provider.loads == 1


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_no_caller_waits_after_the_first_load_has_failed(
    callers: Callers, keys: RemoteJwks, provider: Provider, failure: Exception
) -> None:
    provider.failure = failure
    assert callers.ask(*["known"] * 50) == ["unavailable"] * 50
    assert callers.ask(*["known"] * 50) == ["unavailable"] * 50
    assert provider.loads == 1
    assert not keys.is_ready
    assert keys.age_seconds is None


def test_no_caller_waits_for_the_second_load(
    monkeypatch: pytest.MonkeyPatch, callers: Callers, provider: Provider
) -> None:
    monkeypatch.setattr(remote_jwks, "RETRY_SECONDS", 0.001)
    provider.failure = FetchError("down")
    assert callers.ask("known") == ["unavailable"]
    provider.hang()
    loads = provider.loads
    eventually(lambda: provider.loads > loads)
    assert callers.ask(*["known"] * 50) == ["unavailable"] * 50


def test_the_wait_for_a_hanging_first_load_ends_for_all_callers_at_once(
    monkeypatch: pytest.MonkeyPatch, callers: Callers, provider: Provider, clock: Clock
) -> None:
    monkeypatch.setattr(remote_jwks, "FIRST_LOAD_SECONDS", 0.2)
    provider.hang()
    assert callers.ask(*["known"] * 50) == ["unavailable"] * 50
    # The first load has been running for longer than FIRST_LOAD_SECONDS, so a later caller does not wait again.
    clock.now += FOREVER + 1
    monkeypatch.setattr(remote_jwks, "FIRST_LOAD_SECONDS", FOREVER)
    assert callers.ask(*["known"] * 50) == ["unavailable"] * 50
    assert provider.loads == 1


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_the_first_load_is_retried_until_the_issuer_is_up(
    monkeypatch: pytest.MonkeyPatch, callers: Callers, keys: RemoteJwks, provider: Provider, failure: Exception
) -> None:
    monkeypatch.setattr(remote_jwks, "RETRY_SECONDS", 0.001)
    provider.failure = failure
    assert not keys.is_ready
    eventually(lambda: provider.loads > 3)
    provider.failure = None
    eventually(lambda: keys.is_ready)
    assert callers.ask("known") == [provider.keys["known"]]


# --- unknown key ids


def test_all_callers_with_a_new_key_wait_for_one_fetch(
    callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock
) -> None:
    """Right after a rotation a browser sends several requests at once: all of them must pass, not only the first."""
    callers.ask("known")
    provider.keys["new"] = a_key()
    provider.hang()
    reads = clock.reads
    started = [callers.start("new") for _ in range(50)]
    eventually(lambda: provider.loads == 2 and clock.reads >= reads + 50)
    provider.go_on()
    assert {one.result(20) for one in started} == {provider.keys["new"]}
    assert provider.loads == 2


def test_a_fetch_that_started_before_the_request_is_followed_by_another(
    callers: Callers, provider: Provider, clock: Clock
) -> None:
    callers.ask("known")
    provider.hang()
    first = callers.start("random")
    eventually(lambda: provider.loads == 2)
    provider.keys["new"] = a_key()
    clock.now += COOLDOWN
    reads = clock.reads
    second = callers.start("new")
    eventually(lambda: clock.reads > reads)
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


def test_the_wait_for_a_hanging_fetch_ends_for_all_callers_at_once(
    monkeypatch: pytest.MonkeyPatch, provider: Provider, clock: Clock
) -> None:
    callers = Callers(remote_jwks_of(provider, clock, cooldown_seconds=2 * FOREVER))
    callers.ask("known")
    provider.hang()
    monkeypatch.setattr(remote_jwks, "UNKNOWN_KEY_SECONDS", 0.2)
    assert callers.ask(*(f"random-{number}" for number in range(50))) == ["unknown_key"] * 50
    # A later caller in the same cooldown does not wait, although its own timeout would allow it to wait.
    clock.now += FOREVER + 1
    monkeypatch.setattr(remote_jwks, "UNKNOWN_KEY_SECONDS", FOREVER)
    assert callers.ask(*(f"random-{number}" for number in range(50))) == ["unknown_key"] * 50
    assert provider.loads == 2


def test_finding_a_known_key_never_waits(callers: Callers, provider: Provider, clock: Clock) -> None:
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


def test_a_fetch_longer_than_the_cooldown_is_followed_by_one_more(
    callers: Callers, provider: Provider, clock: Clock
) -> None:
    callers.ask("known")
    provider.hang()
    waiting = [callers.start("random")]
    eventually(lambda: provider.loads == 2)
    for _ in range(5):
        clock.now += COOLDOWN
        reads = clock.reads
        waiting.append(callers.start("random"))
        eventually(lambda reads=reads: clock.reads > reads)  # type: ignore[misc]
    provider.go_on()
    assert {one.result(20) for one in waiting} == {"unknown_key"}
    assert provider.loads == 3


def test_a_known_key_with_another_algorithm_causes_no_fetch(callers: Callers, provider: Provider) -> None:
    callers.ask("known")
    for algorithm in ("none", "HS512", "RS256", ""):
        assert callers.start("known", algorithm).result(20) == "algorithm"
        assert callers.start(None, algorithm).result(20) == "algorithm"
    assert provider.loads == 1


def test_a_token_without_kid_matches_any_key(callers: Callers, provider: Provider, clock: Clock) -> None:
    assert callers.ask(None) == [provider.keys["known"]]
    # An empty kid matches keys without an id.
    assert callers.ask("") == ["unknown_key"]
    provider.keys["new"] = a_key()
    clock.now += COOLDOWN
    assert callers.ask("new") == [provider.keys["new"]]
    assert callers.ask(None) == [[provider.keys["known"], provider.keys["new"]]]
    assert provider.loads == 3
    provider.keys[None] = a_key()
    clock.now += COOLDOWN
    assert callers.ask("") == [provider.keys[None]]


def test_a_new_key_for_tokens_without_kid_is_fetched_once_per_cooldown(
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


def test_no_caller_misses_the_end_of_a_fetch(frequent_thread_switches: None, provider: Provider, clock: Clock) -> None:
    """Refreshes are made without pauses, so that callers arrive in every state of a refresh."""
    keys = remote_jwks_of(provider, clock, refresh_seconds=1e-4)
    callers = Callers(keys)
    callers.ask("known")
    for number in range(300):
        provider.keys = {**provider.keys, f"new-{number}": a_key()}
        clock.now += COOLDOWN
        found = callers.ask(*[f"new-{number}"] * 3)
        assert found == [provider.keys[f"new-{number}"]] * 3, number


# --- refreshing


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_no_exception_stops_refreshing(
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


def test_an_exception_of_the_callback_does_not_stop_refreshing(
    callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock
) -> None:
    callers.ask("known")
    keys.on_key_removed = fail
    provider.keys = {"second": a_key()}
    assert callers.ask("second") == [provider.keys["second"]]
    clock.now += COOLDOWN
    provider.keys["third"] = a_key()
    assert callers.ask("third") == [provider.keys["third"]]


def test_failure_and_recovery_are_logged_once_each(
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


def test_keys_are_withdrawn_after_two_sets_without_a_usable_key(
    caplog: pytest.LogCaptureFixture, callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock
) -> None:
    removed: list[object] = []
    keys.on_key_removed = lambda: removed.append(None)
    callers.ask("known")
    for failure, found in [
        (NoUsableKey("empty"), provider.keys["known"]),
        # A failed fetch neither counts as an unusable key set nor resets their count.
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
    # A usable key set resets the count.
    clock.now += COOLDOWN
    provider.failure = NoUsableKey("empty")
    callers.ask("random")
    assert callers.ask("known") == [provider.keys["known"]]


def test_an_issuer_whose_first_sets_are_unusable(
    monkeypatch: pytest.MonkeyPatch, callers: Callers, keys: RemoteJwks, provider: Provider
) -> None:
    monkeypatch.setattr(remote_jwks, "RETRY_SECONDS", 0.001)
    provider.failure = NoUsableKey("empty")
    assert callers.ask("known")[0] in ("unavailable", "unknown_key")
    eventually(lambda: provider.loads > 3)
    assert callers.ask("known") == ["unknown_key"]
    assert not keys.is_ready


def test_the_callback_is_called_for_removed_and_replaced_keys_only(
    callers: Callers, keys: RemoteJwks, provider: Provider, clock: Clock
) -> None:
    calls: list[object] = []
    keys.on_key_removed = lambda: calls.append(outcome(keys, "known"))
    callers.ask("known")
    provider.keys["new"] = a_key()
    callers.ask("new")
    assert calls == []
    clock.now += COOLDOWN
    replaced = provider.keys["known"] = a_key()
    callers.ask("random")
    # At the time of the call, the key set in use already has the new key.
    assert calls == [replaced]
    clock.now += COOLDOWN
    del provider.keys["new"]
    callers.ask("random")
    assert calls == [replaced] * 2


def test_the_age_counts_from_the_last_successful_load(
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


def test_new_keys_are_never_seen_with_the_age_of_the_old(provider: Provider) -> None:
    seen: list[bool] = []

    def clock() -> float:
        if threading.current_thread().name.startswith("keys of"):
            seen.append(made[0].is_ready)
        return 1000.0

    made = [RemoteJwks("https://id.test", provider.load, FOREVER, COOLDOWN, clock, lambda: 0.5)]
    assert Callers(made[0]).ask("known") == [provider.keys["known"]]
    assert seen == [False]


def test_concurrent_starts_start_one_thread(keys: RemoteJwks, provider: Provider) -> None:
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
def test_a_forked_process_keeps_its_keys_and_starts_its_own_thread(
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
        # The test would hang here if the child waited for the thread of the parent, which it does not have.
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
