"""Names are asked for together, but nobody depends on one question for long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.system import connecting
from gateway.system.connecting import NAMES, addresses_of, connect_to_any

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]


class Resolver:
    """The machine's; each question waits for a word, or fails."""

    def __init__(self) -> None:
        self.asked = 0
        self.hangs: dict[int, threading.Event] = {}
        self.fails: set[int] = set()

    def getaddrinfo(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        number = self.asked
        if number in self.hangs:
            self.hangs[number].wait(30)
        if number in self.fails:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return FOUND


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    # The machine's own can't be made to hang.
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    yield resolver
    for event in resolver.hangs.values():
        event.set()
    deadline = time.monotonic() + 30
    while NAMES:
        assert time.monotonic() < deadline


def ask_aside(results: list[Any]) -> threading.Thread:
    def ask() -> None:
        try:
            results.append(addresses_of("svc.test", 80, 30))
        except OSError as error:
            results.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def until_asked(resolver: Resolver, count: int) -> None:
    deadline = time.monotonic() + 30
    while resolver.asked < count:
        assert time.monotonic() < deadline


def test_those_who_ask_at_the_same_time_share_one_question(resolver: Resolver) -> None:
    resolver.hangs[1] = threading.Event()
    results: list[Any] = []
    threads = [ask_aside(results)]
    until_asked(resolver, 1)
    threads += [ask_aside(results) for _ in range(5)]
    resolver.hangs[1].set()
    for thread in threads:
        thread.join()
    assert results == [FOUND] * 6
    # Whoever asks later asks anew.
    before = resolver.asked
    assert addresses_of("svc.test", 80, 30) == FOUND
    assert resolver.asked == before + 1


def test_one_that_was_lost_on_its_way_is_asked_again_for_all(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "SHARED_SECONDS", -1)
    lost = resolver.hangs[1] = threading.Event()
    resolver.fails.add(1)
    results: list[Any] = []
    first = ask_aside(results)
    until_asked(resolver, 1)
    for number in (2, 3):
        # Each is one beside the one that hangs.
        assert addresses_of("svc.test", 80, 30) == FOUND
        assert resolver.asked == number
    first.join()
    assert results == [FOUND]
    lost.set()


def test_there_are_never_more_than_a_few_questions_at_once(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "SHARED_SECONDS", -1)
    resolver.hangs = {number: threading.Event() for number in range(1, connecting.MOST_AT_ONCE + 1)}
    resolver.fails = {1}
    results: list[Any] = []
    threads = []
    for number in resolver.hangs:
        threads.append(ask_aside(results))
        until_asked(resolver, number)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            addresses_of("svc.test", 80, 0)
    assert resolver.asked == connecting.MOST_AT_ONCE
    # The first one's failure says nothing while others may still be told.
    resolver.hangs[1].set()
    resolver.hangs[2].set()
    for thread in threads:
        thread.join()
    assert results == [FOUND] * len(threads)


def test_what_all_fail_to_be_told_fails_for_all(resolver: Resolver) -> None:
    resolver.fails = {1}
    with pytest.raises(socket.gaierror):
        addresses_of("svc.test", 80, 30)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("::1", 70000)])
def test_a_port_that_there_cant_be_is_an_ordinary_failure(host: str, port: int) -> None:
    with pytest.raises(OSError, match="port"):
        connect_to_any(host, port, time.monotonic() + 5)
