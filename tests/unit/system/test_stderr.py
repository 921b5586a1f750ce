"""Writing to standard error never blocks, and messages are written as a whole."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from tests.support.gateway import ROOT

PREPARED = "import sys; from gateway.system.stderr import install_non_blocking_stderr; install_non_blocking_stderr()\n"
LOGGING = """
import logging, threading
handler = logging.StreamHandler(sys.stderr)
first, second = logging.getLogger("first"), logging.getLogger("second")
first.addHandler(handler)
first.propagate = False
raised = []
def write(number):
    # One with its own handler, the other one with the handler of last resort: two locks for one stream.
    log = first if number % 2 else second
    for count in range(300):
        try:
            log.error("<%d %d>", number, count)
        except BaseException as error:
            raised.append(error)
threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(raised)
"""
LARGE = """
import os
for letter in "abc":
    if os.fork() == 0:
        for _ in range(3):
            sys.stderr.write("<" + letter * 6000 + ">\\n")
        os._exit(0)
for _ in "abc": os.wait()
"""
STUCK = """
for number in range(20000):
    sys.stderr.write(f"<{number} {'x' * 100}>\\n")
print("went on", flush=True)
sys.stdin.read(1)
sys.stderr.write("<last>\\n")
"""
MOVED = """
import os
own = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.dup2(own, 2)
sys.stderr.write("elsewhere\\n")
"""


def run(code: str, *arguments: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_threads_that_write_at_the_same_time_lose_nothing() -> None:
    said, errors = run(LOGGING)
    assert said == "[]\n"
    found = re.findall(r"<(\d) (\d+)>", errors)
    lost = sum(int(count) for count in re.findall(r"(\d+) messages to standard error were dropped", errors))
    assert len(set(found)) + lost == 4 * 300


def test_large_messages_of_several_processes_are_not_mixed() -> None:
    _, errors = run(LARGE)
    assert sorted(errors.split()) == [f"<{letter * 6000}>" for letter in "aaabbbccc"]


def pipe() -> tuple[int, int]:
    return os.pipe()


def socket_pair() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


@pytest.mark.parametrize("make", [pipe, socket_pair])
def test_a_stuck_reader_later_gets_the_number_of_dropped_messages(make: Callable[[], tuple[int, int]]) -> None:
    reader, writer = make()
    with subprocess.Popen(
        [sys.executable, "-c", PREPARED + STUCK],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
    ) as process:
        os.close(writer)
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "went on\n"
        pieces = [os.read(reader, 65536)]
        read = threading.Thread(target=lambda: pieces.extend(iter(lambda: os.read(reader, 65536), b"")))
        read.start()
        process.stdin.write("x")
        process.stdin.flush()
    read.join()
    os.close(reader)
    said = b"".join(pieces).decode()
    lost = sum(int(count) for count in re.findall(r"(\d+) messages to standard error were dropped", said))
    whole = len(re.findall(r"<\d+ x{100}>", said))
    assert lost > 0
    assert whole + lost == 20000
    assert said.endswith("<last>\n")


def test_a_redirected_descriptor_is_followed(tmp_path: object) -> None:
    file = f"{tmp_path}/errors"
    assert run(MOVED, file) == ("", "")
    with open(file) as errors:
        assert errors.read() == "elsewhere\n"
