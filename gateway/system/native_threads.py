"""Work that takes CPU time, done aside: under gevent, requests wait for whatever does not wait itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from gevent.monkey import is_module_patched
from gevent.threadpool import ThreadPool

# One may wait for a reader of the log that is stuck. More would only take the processor from one another.
THREADS = 4

Result = TypeVar("Result")


def run_in_native_thread(work: Callable[[], Result]) -> Result:
    """The result of `work`, run in a thread of the system's while the requests of this process go on.

    It must use nothing that waits by gevent, so it must not import anything nor log: the locks of both are gevent's,
    and threads that wait for one another by them may wait for ever. Raises what `work` raises."""
    if not is_module_patched("threading"):
        return work()
    results: list[Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            # gevent would also write it to standard error, as if nobody could expect it.
            failures.append(error)

    threads_of(os.getpid()).apply(run)
    for failure in failures:
        raise failure
    return results[0]


@cache
def threads_of(pid: int) -> ThreadPool:  # noqa: ARG001 - not those of the process from which this one was forked
    """Not gevent's own, which may all be waiting for name servers."""
    return ThreadPool(THREADS)
