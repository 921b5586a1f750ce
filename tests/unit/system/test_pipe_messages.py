"""Messages of several processes on one pipe are not mixed, whatever their size is and however slowly they are read."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.gateway import ROOT

PREPARED = """
import fcntl, os, sys
from gateway.telemetry.log_writer import Output
from gateway.system.stderr import install_non_blocking_stderr
install_non_blocking_stderr()
"""
# Four processes write access log lines in upper case and errors in lower case.
BOTH = """
for letter in "abcd":
    if os.fork() == 0:
        output = Output(None)
        for size in (10, 5000, 100, 20_000, 70_000, 4096, 4095, 30):
            output.write([b"<%b>\\n" % (letter.upper().encode() * size)] * 2)
            sys.stderr.write("<" + letter * size + ">\\n")
        os._exit(0)
for _ in "abcd": os.wait()
"""
LONG = """
os.write(1, b"begun\\n")
if sys.argv[1] == "errors":
    sys.stderr.write("<" + "x" * 200_000 + ">\\n")
else:
    Output(None).write([b"<" + b"x" * 200_000 + b">\\n"])
"""
PARENT = """
child = os.fork()
if child:
    assert os.read(0, 1) == b"k"
    os.kill(child, 9)
    os.waitpid(child, 0)
    Output(None).write([b"<" + b"y" * 10_000 + b">\\n"])
    sys.stderr.write("<z>\\n")
else:
"""


def start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Starts a program whose standard output and standard error go to the same pipe."""
    return subprocess.Popen(
        [sys.executable, "-c", PREPARED + code, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.parametrize("pipe_bytes", [4096, 65536])
def test_lines_of_both_outputs_of_several_processes_are_not_mixed(pipe_bytes: int) -> None:
    with start(BOTH) as process:
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, pipe_bytes)
        pieces = list(iter(lambda: os.read(process.stdout.fileno(), 1000), b""))  # type: ignore[union-attr]
    lines = b"".join(pieces).decode().splitlines()
    logged = Counter(line for line in lines if line[1:2].isupper())
    sizes = (10, 5000, 100, 20_000, 70_000, 4096, 4095, 30)
    assert logged == {f"<{letter * size}>": 2 for letter in "ABCD" for size in sizes}
    for line in lines:
        # If the reader was late, a message may be incomplete, but it is on its own line.
        assert not line or re.fullmatch(
            r"<(.)\1*>?|\d+ messages to standard error were dropped, as nobody read them", line
        )


@pytest.mark.parametrize("output", ["log", "errors"])
def test_a_writer_killed_in_the_middle_of_a_line_does_not_damage_the_next_one(output: str) -> None:
    code = PARENT + "".join(f"    {line}\n" for line in LONG.strip().splitlines())
    with start(code, output) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # Stops reading in the middle of the line. The writer then waits there, because the pipe is full.
        seen = os.read(process.stdout.fileno(), 1000)
        while b"<x" not in seen:
            seen += os.read(process.stdout.fileno(), 1000)
        process.stdin.write(b"k")
        process.stdin.flush()
        rest = process.stdout.read()
    lines = (seen + rest).decode().splitlines()
    assert lines[0] == "begun"
    # The writer may have finished the line before it was killed.
    assert re.fullmatch("<x+>?", lines[1])
    assert [line for line in lines[2:] if line] == [f"<{'y' * 10_000}>", "<z>"]
    assert process.returncode == 0


def test_an_error_does_not_wait_for_a_stopped_writer() -> None:
    code = f"""
stopped = os.fork()
if stopped:
    os.waitpid(stopped, os.WUNTRACED)
    sys.stderr.write("lost")
    os.kill(stopped, {int(signal.SIGKILL)})
    os.waitpid(stopped, 0)
    sys.stderr.write("<z>\\n")
else:
    own = os.open("/proc/self/fd/1", os.O_WRONLY)
    fcntl.flock(own, fcntl.LOCK_EX)
    os.kill(os.getpid(), {int(signal.SIGSTOP)})
"""
    with start(code) as process:
        said = process.communicate(timeout=30)[0]
    assert said == b"1 messages to standard error were dropped, as nobody read them\n<z>\n"
