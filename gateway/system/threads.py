"""Background threads that do not delay the exit of the process: a lasting one per process, or a group of tasks.

concurrent.futures would join its threads at exit, so a worker would wait for them.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Iterable
from threading import BoundedSemaphore, Condition, Thread

log = logging.getLogger(__name__)


class PerProcessThread:
    """A lasting background thread. Each process starts its own at the first `start`, and again if it has failed.

    `at_exit` is called at the exit of each process that started the thread. It is registered with the start, as
    gunicorn's master builds objects with such a thread, never starts it and drops them."""

    def __init__(self, name: str, run: Callable[[], None], at_exit: Callable[[], None] | None = None) -> None:
        self._name = name
        self._run = run
        self._at_exit = at_exit
        self._pid = 0

    def start(self) -> None:
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        try:
            Thread(target=self._run_logged, name=self._name, daemon=True).start()
        except BaseException:
            # If no thread can be started now, the next call tries again.
            self._pid = 0
            raise
        if self._at_exit is not None:
            # Registered already if the thread has failed before.
            atexit.unregister(self._at_exit)
            atexit.register(self._at_exit)

    def _run_logged(self) -> None:
        try:
            self._run()
        except Exception:
            self._pid = 0
            log.exception("the thread for %s has failed", self._name)


class TaskGroup:
    """Runs tasks in threads, up to `max_running` at once. Exceptions are logged, also that no thread can be started.
    `changed` is notified whenever a task has ended."""

    def __init__(self, max_running: int, changed: Condition | None = None) -> None:
        self._free = BoundedSemaphore(max_running)
        self._changed = changed or Condition()
        self._pending = 0

    def begin(self, tasks: Iterable[Callable[[], None]]) -> None:
        for task in tasks:
            with self._changed:
                self._pending += 1
            try:
                Thread(target=self._run, args=(task,), daemon=True).start()
            except Exception:
                log.exception("a background task could not be started")
                self._end_one()

    def wait(self, seconds: float, is_enough: Callable[[], bool] = lambda: False) -> bool:
        """Waits until all tasks have ended, until `is_enough` holds (checked when `changed` is notified), or for
        `seconds`; whether all have ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending == 0 or is_enough(), seconds)
            return self._pending == 0

    def _run(self, task: Callable[[], None]) -> None:
        try:
            with self._free:
                task()
        except Exception:
            log.exception("a background task failed")
        finally:
            self._end_one()

    def _end_one(self) -> None:
        with self._changed:
            self._pending -= 1
            self._changed.notify_all()
