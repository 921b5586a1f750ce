"""The refresher of documents goes on, whatever a fetch ends with."""

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
    """A source that can't even be asked."""

    key, max_bytes = "one", 1000

    def __init__(self, failure: Exception) -> None:
        self._failure = failure
        self.asked = 0

    def fetch(self, fields: Mapping[str, str]) -> Document:  # noqa: ARG002 - a source's
        self.asked += 1
        raise self._failure

    def check(self, content: bytes) -> None:
        """There is none."""


@pytest.mark.parametrize("failure", [Overloaded("no descriptors"), RuntimeError("anything"), MemoryError()])
def test_what_ends_a_fetch_is_known_and_it_is_not_tried_again_at_once(failure: Exception) -> None:
    source = Failing(failure)
    refresher = DocumentRefresher({"one": source}, None, 60, lambda *_: None, time.time, lambda: 0.5)
    refresher.wait_for_first(30)
    assert refresher.known["one"].failure == (str(failure) or "MemoryError")
    assert source.asked == 1


class Changing:
    """A source that has another document each time; it answers where `may_answer` is set."""

    key, max_bytes = "changing", 1000

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._lock = threading.Lock()

    def fetch(self, fields: Mapping[str, str]) -> Document:  # noqa: ARG002 - a source's
        with self._lock:
            self.asked += 1
            content = json.dumps(self.asked).encode()
        assert self.may_answer.wait(60)
        return Document(content)

    def check(self, content: bytes) -> None:
        """It always is one."""


class Reader:
    """What a refresher says of the source, as a library would have it."""

    def __init__(self) -> None:
        self.content = b""

    def update(self, _: Mapping[str, DocumentState], contents: Mapping[str, bytes]) -> None:
        self.content = contents.get("changing", b"")


@pytest.fixture
def store() -> Iterator[DocumentStore]:
    with RedisServer() as server:
        yield DocumentStore(SharedRedis(server.url, 5))


def keeper_of(
    source: Changing, reader: Reader, store: DocumentStore | None, cooldown_seconds: float
) -> DocumentRefresher:
    refresher = DocumentRefresher(
        {"changing": source}, store, 3600, reader.update, time.time, lambda: 0.5, cooldown_seconds=cooldown_seconds
    )
    refresher.wait_for_first(30)
    return refresher


def test_a_renewal_is_in_use_when_it_has_ended_and_the_next_is_no_sooner_than_the_cooldown() -> None:
    source, reader = Changing(), Reader()
    refresher = keeper_of(source, reader, None, cooldown_seconds=3600)
    assert (source.asked, reader.content) == (1, b"1")
    assert refresher.begin_renewal("changing").ended.wait(30)
    assert (source.asked, reader.content) == (2, b"2")
    again = refresher.begin_renewal("changing")
    again.wait()
    assert again.ended.is_set()
    assert (source.asked, reader.content) == (2, b"2")


def test_after_the_cooldown_it_is_fetched_again() -> None:
    source, reader = Changing(), Reader()
    refresher = keeper_of(source, reader, None, cooldown_seconds=0)
    for number in (2, 3, 4):
        assert refresher.begin_renewal("changing").ended.wait(30)
        assert (source.asked, reader.content) == (number, json.dumps(number).encode())


def test_all_that_ask_during_a_renewal_wait_for_the_same_one() -> None:
    source, reader = Changing(), Reader()
    refresher = keeper_of(source, reader, None, cooldown_seconds=0)
    source.may_answer.clear()
    first = refresher.begin_renewal("changing")
    assert {refresher.begin_renewal("changing") for _ in range(20)} == {first}
    # They wait no longer than they may.
    first.wait()
    assert (first.ended.is_set(), reader.content) == (False, b"1")
    source.may_answer.set()
    assert first.ended.wait(30)
    assert (source.asked, reader.content) == (2, b"2")


def test_of_all_workers_one_renews_and_the_others_have_it(store: DocumentStore) -> None:
    source, readers = Changing(), [Reader() for _ in range(4)]
    keepers = [keeper_of(source, reader, store, cooldown_seconds=3600) for reader in readers]
    assert source.asked == 1
    renewals = [refresher.begin_renewal("changing") for refresher in keepers]
    assert all(renewal.ended.wait(30) for renewal in renewals)
    assert source.asked == 2
    assert [reader.content for reader in readers] == [b"2"] * 4


def test_a_renewal_begins_after_a_fetch_that_goes_on(store: DocumentStore) -> None:
    source, reader = Changing(), Reader()
    refresher = keeper_of(source, reader, store, cooldown_seconds=3600)
    # Another worker is fetching, perhaps since before the service had the operation.
    assert store.may_fetch(source.key, 60)
    renewal = refresher.begin_renewal("changing")
    assert source.asked == 1
    store.has_fetched(source.key)
    assert renewal.ended.wait(30)
    assert (source.asked, reader.content) == (2, b"2")


def test_a_renewal_goes_on_where_its_end_can_not_be_told() -> None:
    source, reader = Changing(), Reader()
    refresher = keeper_of(source, reader, None, cooldown_seconds=0)

    def fail(*_: object) -> None:
        raise RuntimeError("no memory to merge it")

    update: Callable[..., None] = refresher._when_changed
    refresher._when_changed = fail
    assert refresher.begin_renewal("changing").ended.wait(30)
    refresher._when_changed = update
    assert refresher.begin_renewal("changing").ended.wait(30)
    assert reader.content == b"3"
