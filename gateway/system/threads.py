"""Background threads that nobody waits for at the end of the process: one of its own, or several things at once.

concurrent.futures joins its threads when the interpreter ends: a worker that is to end would wait for theirs.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Iterable
from threading import BoundedSemaphore, Condition, Lock, Thread

log = logging.getLogger(__name__)


class PerProcessThread:
    """A thread of each process, with a lasting task: started once, when first asked for, so not before a fork; and
    again where the task has failed. `at_exit` is called at the end of each process that started it: what registered
    itself when it was made would stay in gunicorn's master, which makes an application for each reload and drops it."""

    def __init__(self, name: str, run: Callable[[], None], at_exit: Callable[[], None] | None = None) -> None:
        self._name = name
        self._run = run
        self._at_exit = at_exit
        self._pid = 0
        self._lock = Lock()

    def start(self) -> None:
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                try:
                    Thread(target=self._run_on, name=self._name, daemon=True).start()
                except BaseException:
                    # Where no thread can be had, the next one who asks tries again.
                    self._pid = 0
                    raise
                if self._at_exit is not None:
                    # It may have been registered before, where the task has failed.
                    atexit.unregister(self._at_exit)
                    atexit.register(self._at_exit)

    def _run_on(self) -> None:
        try:
            self._run()
        except Exception:
            self._pid = 0
            log.exception("the thread for %s has failed", self._name)


class TaskGroup:
    """Runs calls in threads, `most` of them at once. What they raise is logged, also that no thread can be had.
    `changed` is notified when a call has ended."""

    def __init__(self, most: int, changed: Condition | None = None) -> None:
        self._free = BoundedSemaphore(most)
        self._changed = changed or Condition()
        self._pending = 0

    def begin(self, calls: Iterable[Callable[[], None]]) -> None:
        for call in calls:
            with self._changed:
                self._pending += 1
            try:
                Thread(target=self._run, args=(call,), daemon=True).start()
            except Exception:
                log.exception("work in the background can't be begun")
                self._end_one()

    def wait(self, seconds: float, is_enough: Callable[[], bool] = lambda: False) -> bool:
        """Until all that was begun has ended, and no longer than that, nor after `is_enough` when `changed` was
        notified; whether all has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending == 0 or is_enough(), seconds)
            return self._pending == 0

    def _run(self, call: Callable[[], None]) -> None:
        try:
            with self._free:
                call()
        except Exception:
            log.exception("work in the background failed")
        finally:
            self._end_one()

    def _end_one(self) -> None:
        with self._changed:
            self._pending -= 1
            self._changed.notify_all()
