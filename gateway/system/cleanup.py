"""What a process removes when it ends, also where a signal ends it while it starts.

gunicorn handles signals only when the gateway is almost there. Until then Python would print a traceback for Ctrl-C, or
the system would end the process with its temporary folders left behind. So gunicorn's configuration imports this file
before anything else, and this file imports nothing that takes long.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# What they do where nobody has changed it: a shell has what it starts in the background ignore Ctrl-C, for example.
USUAL_HANDLERS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}

_cleanups: list[tuple[int, Callable[[], None]]] = []


def at_end(clean: Callable[[], None]) -> None:
    """Has `clean` run at the end of this process, and not of those that are forked from it. It may run in a signal's
    handler, so it must wait for nothing by gevent."""
    _cleanups.append((os.getpid(), clean))


@atexit.register
def clean_up() -> None:
    """The last one registered runs first."""
    while _cleanups:
        owner, clean = _cleanups.pop()
        if owner == os.getpid():
            clean()


def end_quietly_by_signals() -> None:
    """From now on, and until other handlers are set: gunicorn's master sets its own."""
    for number, usual in USUAL_HANDLERS.items():
        if signal.getsignal(number) == usual:
            signal.signal(number, end_quietly)


def end_quietly(number: int, _: FrameType | None) -> None:
    for one in USUAL_HANDLERS:
        signal.signal(one, signal.SIG_IGN)
    clean_up()
    if number != signal.SIGQUIT:
        # A shell ends its script where Ctrl-C ended a command, and goes on where the command exited by itself.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    # Without a core dump; and where this is the first process of a container, which no signal ends by default.
    os._exit(128 + number)


@contextmanager
def signals_wait() -> Iterator[None]:
    """While something is made that must not be left behind, and is not registered yet."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, USUAL_HANDLERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
