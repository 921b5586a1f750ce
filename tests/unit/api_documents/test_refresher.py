"""The refresher continues after any failure. Early refreshes are shared and rate-limited."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from gateway.api_documents.document_state import DocumentState
from gateway.api_documents.refresher import DocumentRefresher
from gateway.api_documents.store import DocumentStore
from gateway.document_fetch import Document
from gateway.errors import Overloaded
from gateway.redis.client import SharedRedis
from tests.support.redis import RedisServer


class Failing:
    """A source whose fetches fail."""

    key, max_bytes = "one", 1000

    def __init__(self, failure: Exception) -> None:
        self._failure = failure
        self.fetches = 0

    def fetch(self, headers: Mapping[str, str]) -> Document:  # noqa: ARG002 - as the protocol has it
        self.fetches += 1
        raise self._failure

    def check(self, content: bytes) -> None:
        """The refresher never calls this, as no fetch succeeds."""


@pytest.mark.parametrize("failure", [Overloaded("no descriptors"), RuntimeError("anything"), MemoryError()])
def test_failure_of_a_fetch_is_stored_and_not_retried_at_once(failure: Exception) -> None:
    source = Failing(failure)
    refresher = DocumentRefresher({"one": source}, None, 60, lambda *_: None, time.time, lambda: 0.5)
    refresher.wait_for_first(30)
    assert refresher.known["one"].failure == (str(failure) or "MemoryError")
    assert source.fetches == 1


class Changing:
    """A source that has another document for each fetch. A fetch waits until `may_respond` is set."""

    key, max_bytes = "changing", 1000

    def __init__(self) -> None:
        self.fetches = 0
        self.may_respond = threading.Event()
        self.may_respond.set()
        self._lock = threading.Lock()

    def fetch(self, headers: Mapping[str, str]) -> Document:  # noqa: ARG002 - as the protocol has it
        with self._lock:
            self.fetches += 1
            content = json.dumps(self.fetches).encode()
        assert self.may_respond.wait(60)
        return Document(content)

    def check(self, content: bytes) -> None:
        """Accepts any content as a document."""


class Reader:
    """Receives the content from the refresher, as the catalog does."""

    def __init__(self) -> None:
        self.content = b""

    def update(self, _: Mapping[str, DocumentState], contents: Mapping[str, bytes]) -> None:
        self.content = contents.get("changing", b"")


@pytest.fixture
def store() -> Iterator[DocumentStore]:
    with RedisServer() as server:
        yield DocumentStore(SharedRedis(server.url, 5))


def refresher_of(
    source: Changing, reader: Reader, store: DocumentStore | None, cooldown_seconds: float
) -> DocumentRefresher:
    refresher = DocumentRefresher(
        {"changing": source}, store, 3600, reader.update, time.time, lambda: 0.5, cooldown_seconds=cooldown_seconds
    )
    refresher.wait_for_first(30)
    return refresher


def test_early_refresh_is_in_use_when_it_ends_and_is_not_repeated_within_the_cooldown() -> None:
    source, reader = Changing(), Reader()
    refresher = refresher_of(source, reader, None, cooldown_seconds=3600)
    assert (source.fetches, reader.content) == (1, b"1")
    assert refresher.refresh_early("changing").ended.wait(30)
    assert (source.fetches, reader.content) == (2, b"2")
    again = refresher.refresh_early("changing")
    again.wait()
    assert again.ended.is_set()
    assert (source.fetches, reader.content) == (2, b"2")


def test_early_refresh_is_repeated_after_the_cooldown() -> None:
    source, reader = Changing(), Reader()
    refresher = refresher_of(source, reader, None, cooldown_seconds=0)
    for number in (2, 3, 4):
        assert refresher.refresh_early("changing").ended.wait(30)
        assert (source.fetches, reader.content) == (number, json.dumps(number).encode())


def test_requests_share_the_early_refresh_that_is_running() -> None:
    source, reader = Changing(), Reader()
    refresher = refresher_of(source, reader, None, cooldown_seconds=0)
    source.may_respond.clear()
    first = refresher.refresh_early("changing")
    assert {refresher.refresh_early("changing") for _ in range(20)} == {first}
    # The wait has a time limit, although the fetch has none.
    first.wait()
    assert (first.ended.is_set(), reader.content) == (False, b"1")
    source.may_respond.set()
    assert first.ended.wait(30)
    assert (source.fetches, reader.content) == (2, b"2")


def test_one_worker_refreshes_early_and_the_others_read_the_result(store: DocumentStore) -> None:
    source, readers = Changing(), [Reader() for _ in range(4)]
    refreshers = [refresher_of(source, reader, store, cooldown_seconds=3600) for reader in readers]
    assert source.fetches == 1
    refreshes = [refresher.refresh_early("changing") for refresher in refreshers]
    assert all(refresh.ended.wait(30) for refresh in refreshes)
    assert source.fetches == 2
    assert [reader.content for reader in readers] == [b"2"] * 4


def test_early_refresh_begins_after_the_running_fetch(store: DocumentStore) -> None:
    source, reader = Changing(), Reader()
    refresher = refresher_of(source, reader, store, cooldown_seconds=3600)
    # Another worker is fetching. Its fetch may have begun before the service had the new operation, so it does not
    # count as the refresh.
    assert store.lock_fetch(source.key, 60)
    refresh = refresher.refresh_early("changing")
    assert source.fetches == 1
    store.unlock_fetch(source.key)
    assert refresh.ended.wait(30)
    assert (source.fetches, reader.content) == (2, b"2")


def test_refresher_continues_after_a_failure_of_on_change() -> None:
    source, reader = Changing(), Reader()
    refresher = refresher_of(source, reader, None, cooldown_seconds=0)

    def fail(*_: object) -> None:
        raise RuntimeError("no memory to merge it")

    update: Callable[..., None] = refresher._on_change
    refresher._on_change = fail
    assert refresher.refresh_early("changing").ended.wait(30)
    refresher._on_change = update
    assert refresher.refresh_early("changing").ended.wait(30)
    assert reader.content == b"3"
