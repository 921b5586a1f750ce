"""Cleanup at the exit of a process, also if a signal ends it while it starts.

gunicorn installs its signal handlers near the end of the start. Until then Ctrl-C would print a traceback, and other
signals would leave temporary folders behind. So gunicorn's configuration imports this module first; it imports only
modules that load fast.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Python's handlers. Others are left alone: a shell sets SIGINT to be ignored in background processes, for example.
DEFAULT_HANDLERS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}

_cleanups: list[tuple[int, Callable[[], None]]] = []


def run_at_exit(clean: Callable[[], None]) -> None:
    """Runs `clean` at the exit of this process, but not of its forks. As `clean` may run in a signal handler, it must
    not wait for anything with gevent."""
    _cleanups.append((os.getpid(), clean))


@atexit.register
def clean_up() -> None:
    """In reverse order of registration."""
    while _cleanups:
        owner, clean = _cleanups.pop()
        if owner == os.getpid():
            clean()


def exit_quietly_on_signals() -> None:
    """Until other handlers are installed; gunicorn's master installs its own."""
    for number, default in DEFAULT_HANDLERS.items():
        if signal.getsignal(number) == default:
            signal.signal(number, exit_quietly)


def exit_quietly(number: int, _: FrameType | None) -> None:
    for handled in DEFAULT_HANDLERS:
        signal.signal(handled, signal.SIG_IGN)
    try:
        clean_up()
    finally:
        # Even if a cleanup fails: its exception would end up in the interrupted code, which might catch it and go on.
        if number != signal.SIGQUIT:
            # A shell aborts its script if a command was killed by Ctrl-C, and continues if the command has exited.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        # For SIGQUIT, as its default writes a core dump; and for process 1 of a container, which default signals don't
        # end.
        os._exit(128 + number)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Blocks signals while something is made that needs a cleanup, until the cleanup is registered."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, DEFAULT_HANDLERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
