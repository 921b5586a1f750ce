"""Signals at any moment of a start: it ends at once, says nothing about it, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import ROOT, clean_environment
from tests.support.process_table import wait_for
from tests.support.tokens import SECRET

CONFIGURATION = """
import pathlib
first = "exit_quietly_on_signals()\\n"
exec(pathlib.Path("gunicorn.conf.py").read_text().replace(first, first + "print('begun', flush=True)\\n", 1))
"""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """pytest's own are so deep that the path of a socket in them may be longer than the system allows."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("after", "sign"),
    [
        *((moment, signal.SIGINT) for moment in (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1)),
        *((moment, signal.SIGTERM) for moment in (0.25, 0.45, 0.6)),
        (0.35, signal.SIGQUIT),
        # Later it is a reload.
        (0, signal.SIGHUP),
    ],
)
def test_a_signal_to_all_its_processes_ends_a_start(after: float, sign: signal.Signals, short_folder: Path) -> None:
    (short_folder / "conf.py").write_text(CONFIGURATION)
    own = {"GATEWAY_JWT__SECRET": SECRET, "GATEWAY_SERVER__BIND": "127.0.0.1:0", "WEB_CONCURRENCY": "1"}
    with tempfile.TemporaryFile() as output:

        def said() -> str:
            return os.pread(output.fileno(), 1 << 20, 0).decode()

        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", str(short_folder / "conf.py"), "wsgi:app"],
            cwd=ROOT,
            env={**clean_environment(), **own, "TMPDIR": str(short_folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A terminal sends Ctrl-C to its whole group of processes.
            start_new_session=True,
        )
        try:
            # What comes before is gunicorn's and Python's own.
            assert wait_for(lambda: "begun" in said())
            # At which moment of the start that is, is up to the machine: any will do.
            time.sleep(after)
            os.killpg(process.pid, sign)
            assert process.wait(20) in (0, -sign, 128 + sign)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert "Traceback" not in said()
        assert "xception" not in said()
        assert {file.name for file in short_folder.iterdir()} <= {"conf.py", "__pycache__"}


def test_who_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    code = (
        "import os, signal; from gateway.system.cleanup import exit_quietly_on_signals as begin;"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); begin(); os.kill(os.getpid(), signal.SIGINT); print('on');"
        "os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-uc", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("on\n", "", -signal.SIGTERM)
