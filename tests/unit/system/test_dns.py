"""Callers share the lookup of a name, but no caller depends for long on a single lookup."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.system import dns
from gateway.system.dns import NAMES, resolve

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]


class Resolver:
    """Replaces the system's resolver. A test can make its lookups hang or fail."""

    def __init__(self) -> None:
        self.lookups = 0
        self.hangs: dict[int, threading.Event] = {}
        self.fails: set[int] = set()

    def getaddrinfo(self, *_: Any, **__: Any) -> Any:
        self.lookups += 1
        number = self.lookups
        if number in self.hangs:
            self.hangs[number].wait(30)
        if number in self.fails:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return FOUND


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    # The resolver of the system is replaced, because a test can't make it hang.
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    yield resolver
    for event in resolver.hangs.values():
        event.set()
    deadline = time.monotonic() + 30
    while NAMES:
        assert time.monotonic() < deadline


def resolve_in_thread(results: list[Any]) -> threading.Thread:
    def run() -> None:
        try:
            results.append(resolve("svc.test", 80, 30))
        except OSError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_for_lookups(resolver: Resolver, count: int) -> None:
    deadline = time.monotonic() + 30
    while resolver.lookups < count:
        assert time.monotonic() < deadline


def test_callers_at_the_same_time_share_one_lookup(resolver: Resolver) -> None:
    resolver.hangs[1] = threading.Event()
    results: list[Any] = []
    threads = [resolve_in_thread(results)]
    wait_for_lookups(resolver, 1)
    threads += [resolve_in_thread(results) for _ in range(5)]
    resolver.hangs[1].set()
    for thread in threads:
        thread.join()
    assert results == [FOUND] * 6
    # A call after the end of the lookup begins a new lookup.
    before = resolver.lookups
    assert resolve("svc.test", 80, 30) == FOUND
    assert resolver.lookups == before + 1


def test_a_lookup_that_was_lost_is_repeated_for_all_callers(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "SHARED_SECONDS", -1)
    lost = resolver.hangs[1] = threading.Event()
    resolver.fails.add(1)
    results: list[Any] = []
    first = resolve_in_thread(results)
    wait_for_lookups(resolver, 1)
    for number in (2, 3):
        # The first lookup still hangs, so each call begins another one.
        assert resolve("svc.test", 80, 30) == FOUND
        assert resolver.lookups == number
    first.join()
    assert results == [FOUND]
    lost.set()


def test_only_a_few_lookups_run_at_once(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "SHARED_SECONDS", -1)
    resolver.hangs = {number: threading.Event() for number in range(1, dns.MAX_LOOKUPS + 1)}
    resolver.fails = {1}
    results: list[Any] = []
    threads = []
    for number in resolver.hangs:
        threads.append(resolve_in_thread(results))
        wait_for_lookups(resolver, number)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            resolve("svc.test", 80, 0)
    assert resolver.lookups == dns.MAX_LOOKUPS
    # The first lookup fails. Its callers must not fail, because another lookup may succeed.
    resolver.hangs[1].set()
    resolver.hangs[2].set()
    for thread in threads:
        thread.join()
    assert results == [FOUND] * len(threads)


def test_a_lookup_that_fails_fails_for_its_caller(resolver: Resolver) -> None:
    resolver.fails = {1}
    with pytest.raises(socket.gaierror):
        resolve("svc.test", 80, 30)
