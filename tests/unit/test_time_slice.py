"""A greenlet that always finds something to read lets the others run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.gateway import ROOT

# Two greenlets: one copies without ever having to wait, the other one counts how often it gets to run meanwhile.
COPYING = """
from gevent import monkey; monkey.patch_all()
import gevent, socket, time
from gateway.system.sockets import receive, send_all

ours, theirs = socket.socketpair()
turns = 0

def count():
    global turns
    while True:
        turns += 1
        gevent.sleep(0)

gevent.spawn(count)
gevent.sleep(0)
turns, ended = 0, time.thread_time() + 0.1
while time.thread_time() < ended:
    {loop}
print(turns)
"""


def turns_of_others(loop: str) -> int:
    script = COPYING.format(loop=loop)
    command = [sys.executable, "-c", script]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize(
    "loop",
    [
        "send_all(theirs, b'x'); receive(ours, 1)",
        "send_all(theirs, b'x'); ours.recv(1)",
        "theirs.send(b'x'); receive(ours, 1)",
    ],
)
def test_whoever_never_has_to_wait_lets_others_run(loop: str) -> None:
    assert turns_of_others(loop) >= 5


def test_a_loop_past_these_functions_would_hold_the_worker() -> None:
    """What the others prove something against."""
    assert turns_of_others("theirs.send(b'x'); ours.recv(1)") == 0
