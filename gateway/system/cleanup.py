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

# Only Python's own handlers are replaced. A shell, for example, makes background processes ignore SIGINT; that must
# stay so.
DEFAULT_HANDLERS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}

_cleanups: list[tuple[int, Callable[[], None]]] = []


def run_at_exit(clean: Callable[[], None]) -> None:
    """Runs `clean` when this process exits, but not when its forks do. `clean` must not wait for anything with gevent,
    as it may run in a signal handler."""
    _cleanups.append((os.getpid(), clean))


@atexit.register
def clean_up() -> None:
    """Runs the registered functions, the last one first."""
    while _cleanups:
        owner, clean = _cleanups.pop()
        if owner == os.getpid():
            clean()


def exit_quietly_on_signals() -> None:
    """Makes signals clean up and end the process without a traceback, until other handlers are installed: gunicorn's
    master installs its own."""
    for number, default in DEFAULT_HANDLERS.items():
        if signal.getsignal(number) == default:
            signal.signal(number, exit_quietly)


def exit_quietly(number: int, _: FrameType | None) -> None:
    for handled in DEFAULT_HANDLERS:
        signal.signal(handled, signal.SIG_IGN)
    try:
        clean_up()
    finally:
        # The process ends even if a cleanup fails. Its exception would end up in the interrupted code, which might
        # catch it and go on.
        if number != signal.SIGQUIT:
            # The process ends by the signal itself: after Ctrl-C, a shell aborts its script only if the command was
            # killed by the signal, and continues if the command has exited.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        # Gets here for SIGQUIT, whose default would write a core dump. Also as process 1 of a container, which signals
        # don't end by default.
        os._exit(128 + number)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Blocks signals while something that needs a cleanup is made, until the cleanup is registered."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, DEFAULT_HANDLERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
