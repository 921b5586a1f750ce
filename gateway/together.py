"""Several things at once, in threads that nobody waits for at the end of the process.

concurrent.futures joins its threads when the interpreter ends: a worker that is to end would wait for theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from threading import BoundedSemaphore, Condition, Thread

log = logging.getLogger(__name__)


class Together:
    """Runs calls in threads, `most` of them at once. What they raise is logged."""

    def __init__(self, most: int) -> None:
        self._free = BoundedSemaphore(most)
        self._changed = Condition()
        self._pending = 0

    def begin(self, calls: Iterable[Callable[[], None]]) -> None:
        for call in calls:
            with self._changed:
                self._pending += 1
            Thread(target=self._run, args=(call,), daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Until all that was begun has ended, and no longer than that; whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self._pending == 0, seconds)

    def _run(self, call: Callable[[], None]) -> None:
        try:
            with self._free:
                call()
        except Exception:
            log.exception("work in the background failed")
        finally:
            with self._changed:
                self._pending -= 1
                self._changed.notify_all()
