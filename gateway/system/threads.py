"""Background threads that do not delay the exit of the process: `PerProcessThread` runs until the exit, `TaskGroup`
runs tasks.

The threads of concurrent.futures would delay the exit of a worker, as they are joined at exit."""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Callable, Iterable
from threading import BoundedSemaphore, Condition, Thread

log = logging.getLogger(__name__)

# Pause before a thread continues that has failed, so that a permanent failure does not use up the CPU and the log.
RESTART_SECONDS = 1.0


class PerProcessThread:
    """A background thread that runs until the process exits. Each process starts its own with the first `start`. If
    `run` fails, it is called again after a pause: nobody may call `start` again.

    `at_exit` is called at the exit of each process that started the thread. It is registered only then: gunicorn's
    master makes objects with such a thread, never starts it, and drops the objects."""

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
            # A process that was forked from one with the thread has inherited the registration.
            atexit.unregister(self._at_exit)
            atexit.register(self._at_exit)

    def _run_logged(self) -> None:
        while True:
            try:
                return self._run()
            except Exception:
                log.exception("the thread for %s has failed and is started again", self._name)
            time.sleep(RESTART_SECONDS)


class TaskGroup:
    """Runs tasks in threads, up to `max_running` at once. An exception of a task is logged, and so is the failure to
    start a thread. `changed` is notified whenever a task has ended."""

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
        """Waits until all tasks have ended or `is_enough` holds (checked when `changed` is notified), but at most
        `seconds`. Returns whether all tasks have ended."""
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
