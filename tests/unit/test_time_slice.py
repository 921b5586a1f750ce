"""Greenlets that never have to wait, beside others that do."""

from __future__ import annotations

import subprocess
import sys

from tests.support.gateway import ROOT

# In a process of its own, as it patches the standard library.
PROGRAM = """
from gevent import monkey
monkey.patch_all()
import socket, time
import gevent
from gateway.system.time_slice import SLICE_SECONDS, yield_if_due

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


def test_sockets_are_looked_at_between_the_slices_of_those_that_never_wait() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    # Each way takes a turn of the five, which is half of what is counted here as a slice.
    assert float(done.stdout) <= 15
