"""Background threads survive failing tasks, and times in which no thread can be started."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from gateway.system import threads
from gateway.system.threads import PerProcessThread, TaskGroup


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes every start of a thread fail. Returns a function that ends this."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return monkeypatch.undo


def test_a_task_that_could_not_be_started_is_not_waited_for(no_threads: Callable[[], None]) -> None:
    together, done = TaskGroup(2), threading.Event()
    together.begin([done.set])
    assert together.wait(30)
    no_threads()
    together.begin([done.set])
    assert together.wait(30)
    assert done.is_set()


def test_a_thread_that_could_not_be_started_is_started_by_the_next_call(
    no_threads: Callable[[], None],
) -> None:
    begun = threading.Event()
    thread = PerProcessThread("test", begun.set)
    with pytest.raises(RuntimeError):
        thread.start()
    no_threads()
    thread.start()
    assert begun.wait(30)


def test_a_thread_that_failed_continues_without_another_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "RESTART_SECONDS", 0)
    runs, has_continued = [], threading.Event()

    def fail_twice() -> None:
        runs.append(threading.current_thread())
        if len(runs) < 3:
            raise MemoryError
        has_continued.set()

    PerProcessThread("test", fail_twice).start()
    assert has_continued.wait(30)
    assert len(set(runs)) == 1
