"""CPU-bound work in native threads: on gevent's own thread it would hold up all requests of the worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from gevent.monkey import is_module_patched
from gevent.threadpool import ThreadPool

# One may be blocked by a stuck reader of the log. More would only compete for the CPU.
THREADS = 4

Result = TypeVar("Result")


def run_in_native_thread(work: Callable[[], Result]) -> Result:
    """The result of `work`, run in a native thread while this process serves requests.

    `work` must not use anything that waits with gevent. So it must neither import nor log: the locks of both are
    gevent's, and two threads that wait for each other's lock may deadlock. Raises what `work` raises."""
    if not is_module_patched("threading"):
        return work()
    results: list[Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            # gevent would also print it to standard error.
            failures.append(error)

    thread_pool(os.getpid()).apply(run)
    for failure in failures:
        raise failure
    return results[0]


@cache
def thread_pool(pid: int) -> ThreadPool:  # noqa: ARG001 - part of the cache key: a fork does not have these threads
    """Not gevent's own pool, all of whose threads may be waiting for name servers."""
    return ThreadPool(THREADS)
