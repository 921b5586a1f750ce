"""Names are asked for together, but nobody depends on one question for long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.system import tcp
from gateway.system.tcp import NAMES, addresses_of, connect_to_any, in_order_of_attempts
from tests.support.sockets import deafen

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
    monkeypatch.setattr(tcp, "SHARED_SECONDS", -1)
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
    monkeypatch.setattr(tcp, "SHARED_SECONDS", -1)
    resolver.hangs = {number: threading.Event() for number in range(1, tcp.MOST_AT_ONCE + 1)}
    resolver.fails = {1}
    results: list[Any] = []
    threads = []
    for number in resolver.hangs:
        threads.append(ask_aside(results))
        until_asked(resolver, number)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            addresses_of("svc.test", 80, 0)
    assert resolver.asked == tcp.MOST_AT_ONCE
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


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize("port", [70000, 65536 + 80, 0, -1, 10**30])
def test_a_port_that_there_cant_be_is_an_ordinary_failure(host: str, port: int) -> None:
    with pytest.raises(OSError, match="port"):
        connect_to_any(host, port, time.monotonic() + 5)


class Listener:
    """Listens at a free port of an address; one that is deaf takes no connections, and refuses none."""

    def __init__(self, host: str = "127.0.0.1", *, is_deaf: bool = False) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.bind((host, 0))
        self.socket.listen(16)
        self.address = (family, socket.SOCK_STREAM, 6, "", self.socket.getsockname())
        self._filling = deafen(self.socket) if is_deaf else []

    def close(self) -> None:
        for one in (self.socket, *self._filling):
            one.close()


class TestSeveralAddresses:
    """The addresses of one name (RFC 8305)."""

    @pytest.fixture
    def deaf(self) -> Iterator[Listener]:
        listener = Listener(is_deaf=True)
        yield listener
        listener.close()

    @pytest.fixture
    def good(self) -> Iterator[Listener]:
        listener = Listener()
        yield listener
        listener.close()

    @pytest.fixture
    def refusing(self) -> Any:
        listener = Listener()
        listener.close()
        return listener

    @pytest.fixture(autouse=True)
    def forget(self) -> Iterator[None]:
        tcp.LAST_CONNECTED.clear()
        yield
        tcp.LAST_CONNECTED.clear()

    @pytest.fixture
    def name(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """The addresses of several.test, in the order in which the system's resolver gives them."""
        addresses: list[Any] = []
        # The machine's own resolver knows no such name.
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: list(addresses))
        return addresses

    def connect(self, seconds: float = 30) -> Any:
        with connect_to_any("several.test", 80, time.monotonic() + seconds) as sock:
            return sock.getpeername()

    def test_one_that_does_not_answer_holds_up_nobody(self, name: list[Any], deaf: Listener, good: Listener) -> None:
        name += [deaf.address, good.address]
        assert self.connect() == good.socket.getsockname()

    def test_those_that_refuse_are_passed_over_at_once(
        self, name: list[Any], refusing: Listener, good: Listener
    ) -> None:
        name += [refusing.address] * 2 + [good.address]
        assert self.connect() == good.socket.getsockname()

    def test_the_one_that_worked_is_tried_first_the_next_time(
        self, name: list[Any], deaf: Listener, good: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name += [deaf.address, good.address]
        self.connect()
        # So the one that does not answer would be waited for until the end.
        monkeypatch.setattr(tcp, "ATTEMPT_DELAY_SECONDS", 1000)
        assert self.connect() == good.socket.getsockname()

    def test_one_that_worked_and_has_gone_is_no_obstacle(self, name: list[Any], good: Listener) -> None:
        other = Listener()
        name += [other.address, good.address]
        assert self.connect() == other.socket.getsockname()
        other.close()
        assert self.connect() == good.socket.getsockname()
        name[:] = [good.address]
        assert self.connect() == good.socket.getsockname()

    def test_there_is_a_turn_for_each_in_little_time(self, name: list[Any], deaf: Listener, good: Listener) -> None:
        name += [deaf.address, deaf.address, good.address]
        assert self.connect(0.2) == good.socket.getsockname()

    def test_all_share_the_deadline(self, name: list[Any], deaf: Listener) -> None:
        other = Listener(is_deaf=True)
        name += [deaf.address, other.address]
        with pytest.raises(TimeoutError):
            self.connect(0.1)
        other.close()

    def test_that_all_refuse_is_told_as_it_is(self, name: list[Any], refusing: Listener) -> None:
        name += [refusing.address, refusing.address]
        with pytest.raises(ConnectionRefusedError):
            self.connect()

    def test_losers_are_closed(self, name: list[Any], deaf: Listener, good: Listener) -> None:
        name += [deaf.address, good.address]
        before = len(list(Path("/proc/self/fd").iterdir()))
        self.connect()
        name[:] = [deaf.address, deaf.address]
        with pytest.raises(TimeoutError):
            self.connect(0.05)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_families_take_turns() -> None:
    def address(family: int, host: str) -> Any:
        return family, socket.SOCK_STREAM, 6, "", (host, 80)

    six = [address(socket.AF_INET6, f"::{number}") for number in (1, 2, 3)]
    four = [address(socket.AF_INET, f"10.0.0.{number}") for number in (1, 2)]
    ordered = in_order_of_attempts([*six, *four, four[0]], None)
    assert ordered == [six[0], four[0], six[1], four[1], six[2]]
    assert in_order_of_attempts([*six, *four], four[1]) == [four[1], six[0], four[0], six[1], six[2]]
