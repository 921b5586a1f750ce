"""Runs CPU-bound work in native threads: in gevent's own thread it would hold up all requests of the worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from gevent.monkey import is_module_patched
from gevent.threadpool import ThreadPool

# More than one thread, as a stuck reader of the log can block one. More than a few would only compete for the CPU.
THREADS = 4

Result = TypeVar("Result")


def run_in_native_thread(work: Callable[[], Result]) -> Result:
    """Runs `work` in a native thread while this process serves requests, and returns its result.

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
            # Caught here, as gevent would also print the error to standard error.
            failures.append(error)

    thread_pool(os.getpid()).apply(run)
    for failure in failures:
        raise failure
    return results[0]


@cache
def thread_pool(pid: int) -> ThreadPool:  # noqa: ARG001 - part of the cache key: a fork does not have these threads
    """A pool of its own: all threads of gevent's pool may be waiting for name servers."""
    return ThreadPool(THREADS)
