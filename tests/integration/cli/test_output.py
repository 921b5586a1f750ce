"""The output of commands to terminals, to pipes and to full disks."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import preloaded
from tests.support.commands import start_flask
from tests.support.gateway import ROOT, clean_environment
from tests.support.redis import free_port
from tests.support.tokens import SECRET

CURSOR_CODES = re.compile(rb"\x1b\[\?25[hl]")
# Nothing listens at the targets, so the command fails at once and ends soon.
COMMAND = [sys.executable, "-m", "flask", "drift"]


def environment() -> dict[str, str]:
    return clean_environment() | {"GATEWAY_SERVICES__DEVICES__TARGETS": f'["http://127.0.0.1:{free_port()}"]'}


def test_terminal_shows_the_progress_and_messages_start_on_a_new_line() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(COMMAND, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        # On Linux, reading raises when the other side of a terminal is closed.
        pass
    finally:
        os.close(ours)
    assert process.wait(30) == 2
    text = CURSOR_CODES.sub(b"", shown)
    assert re.search(rb"\rFetching documents .+ 0%  auth", text)
    assert re.search(rb"\rFetching documents .+ 75%  devices", text)
    assert re.search(rb"\rFetching documents .+100% +\r\nauth: its document could not be fetched", text)


def test_pipe_gets_no_progress() -> None:
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "\x1b" not in done.stdout + done.stderr
    assert "etching" not in done.stdout + done.stderr
    assert "devices: its document could not be fetched" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full, which is always full")
@pytest.mark.parametrize("words", ["check", "services", "routes", "config", "explain GET /healthz", "--help"])
def test_full_standard_output_ends_a_command_quietly(words: str) -> None:
    environ = clean_environment() | {"GATEWAY_JWT__SECRET": SECRET}
    with open("/dev/full", "w") as full:
        done = preloaded.run(["flask", *words.split()], environ, full)
    said = "Error: standard output can't be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.parametrize("words", ["config", "routes"])
def test_closed_pipe_ends_a_command_quietly(words: str) -> None:
    process = start_flask(words)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(60)) == ("", 2)
    process.stderr.close()
