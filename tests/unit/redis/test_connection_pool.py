"""Places for connections to Redis, and those that are kept: never more than there are, and none lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

from redis import ConnectionPool

from gateway.redis.connection_pool import Connections, Places


def in_threads(work: Callable[[], None], number: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_no_more_are_taken_than_there_are() -> None:
    places = Places(2)
    assert places.take(0)
    assert places.take(0)
    assert not places.take(0.01)
    places.give_back()
    assert places.take(0)


def test_who_waits_gets_the_next_one() -> None:
    places, got = Places(1), list[bool]()
    assert places.take(0)
    waiting = threading.Thread(target=lambda: got.append(places.take(30)))
    waiting.start()
    while not places._waiting:
        pass
    places.give_back()
    waiting.join(30)
    assert got == [True]


def test_many_threads_share_a_few_without_losing_any() -> None:
    places, inside, most, failures = Places(3), [], [], []

    def work() -> None:
        for _ in range(300):
            if not places.take(30):
                failures.append("waited in vain")
                return
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            places.give_back()

    in_threads(work, 12)
    assert not failures
    assert max(most) <= 3
    assert all(places.take(0) for _ in range(3))
    assert not places.take(0)


def test_kept_connections_are_ended_once_whoever_ends_them() -> None:
    """Where Redis replies what makes no sense, several threads may find out at the same time."""

    class DocumentState:
        ended = 0

        def disconnect(self) -> None:
            self.ended += 1

    connections = Connections(ConnectionPool(), 64, 1)
    kept, failures = [DocumentState() for _ in range(20_000)], list[Exception]()
    connections._idle.extend(kept)

    def close() -> None:
        try:
            connections.close()
        except Exception as error:
            failures.append(error)

    in_threads(close, 8)
    assert not failures
    assert {one.ended for one in kept} == {1}
