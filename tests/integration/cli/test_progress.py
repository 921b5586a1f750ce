"""Long commands say on a terminal what they are doing, and nothing of it in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from tests.support.gateway import ROOT, clean_environment
from tests.support.redis import free_port

# Nobody listens there, so that it is soon over.
COMMAND = [sys.executable, "-m", "flask", "drift"]


def environment() -> dict[str, str]:
    return clean_environment() | {"GATEWAY_SERVICES__DEVICES__TARGETS": f'["http://127.0.0.1:{free_port()}"]'}


def test_a_terminal_shows_it_and_has_the_line_for_itself_again() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(COMMAND, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        # How a terminal's other side ends on Linux.
        pass
    finally:
        os.close(ours)
    assert process.wait(30) == 2
    assert b"\r\x1b[K[1/4] fetching the document of auth" in shown
    assert b"\r\x1b[K[4/4] fetching the document of " in shown
    # What remains to be said starts on an empty line.
    assert b"\r\x1b[Kauth: its document can't be had" in shown


def test_a_pipe_gets_none_of_it() -> None:
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "\x1b" not in done.stdout + done.stderr
    assert "fetching" not in done.stdout + done.stderr
    assert "devices: its document can't be had" in done.stderr
