"""Greenlets that never wait do not hold up others."""

from __future__ import annotations

import subprocess
import sys

from tests.support.gateway import ROOT

# The program runs in its own process, because it patches the standard library.
PROGRAM = """
from gevent import monkey
monkey.patch_all()
import socket, time
import gevent
from gateway.system.fair_scheduling import SLICE_SECONDS, yield_if_due

slices = 0

def never_wait():
    global slices
    while True:
        until = time.monotonic() + 2 * SLICE_SECONDS
        while time.monotonic() < until:
            yield_if_due()
        slices += 1

def echo(connection):
    while data := connection.recv(1):
        connection.sendall(data)

near, far = socket.socketpair()
gevent.spawn(echo, far)
for _ in range(5):
    gevent.spawn(never_wait)
near.sendall(b"x")
near.recv(1)
before = slices
for _ in range(10):
    near.sendall(b"x")
    near.recv(1)
print((slices - before) / 10)
"""

# Ten request bodies are discarded at the same time as another client is served.
LINGERING = """
from gevent import monkey
monkey.patch_all()
import array, fcntl, socket, termios
import gevent
from gateway.gunicorn.response_writer import linger

def unread(sock):
    found = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, found)
    return found[0]

def echo(connection):
    while data := connection.recv(1):
        connection.sendall(data)

near, far = socket.socketpair()
gevent.spawn(echo, far)
pairs = [socket.socketpair() for _ in range(10)]
for ours, theirs in pairs:
    theirs.sendall(bytes(100_000))
    gevent.spawn(linger, ours)
near.sendall(b"x")
near.recv(1)
print(sum(unread(ours) == 100_000 for ours, _ in pairs))
while any(unread(ours) for ours, _ in pairs):
    gevent.sleep(0.001)
"""


def test_discarded_bodies_are_read_after_others_were_served() -> None:
    assert run(LINGERING) >= 5


def test_sockets_are_checked_between_the_slices_of_greenlets_that_never_wait() -> None:
    # Each of the two directions of a round trip waits for some turns of the greenlets. The program counts once for two
    # turns, as it counts every 2 * SLICE_SECONDS.
    assert run(PROGRAM) <= 15


def run(program: str) -> float:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)
