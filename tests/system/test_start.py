"""A signal at any moment of a start ends it at once, prints no message, and leaves nothing behind."""

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
added = "print('begun', flush=True)\\nimport time; time.sleep({pause_seconds})\\n"
exec(pathlib.Path("gunicorn.conf.py").read_text().replace(first, first + added, 1))
"""
# For SIGHUP the start pauses here until the signal arrives: as soon as gunicorn has its own handlers, it would reload
# instead of ending.
PAUSE_SECONDS = {signal.SIGHUP: 60}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder with a short path. In pytest's own folders, the path of a socket may be longer than the system
    allows."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("after", "sign"),
    [
        *((moment, signal.SIGINT) for moment in (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1)),
        *((moment, signal.SIGTERM) for moment in (0.25, 0.45, 0.6)),
        (0.35, signal.SIGQUIT),
        (0, signal.SIGHUP),
    ],
)
def test_a_signal_to_the_process_group_ends_a_start(after: float, sign: signal.Signals, short_folder: Path) -> None:
    (short_folder / "conf.py").write_text(CONFIGURATION.format(pause_seconds=PAUSE_SECONDS.get(sign, 0)))
    own = {"GATEWAY_JWT__SECRET": SECRET, "GATEWAY_SERVER__BIND": "127.0.0.1:0", "WEB_CONCURRENCY": "1"}
    with tempfile.TemporaryFile() as output:

        def output_so_far() -> str:
            return os.pread(output.fileno(), 1 << 20, 0).decode()

        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", str(short_folder / "conf.py"), "wsgi:app"],
            cwd=ROOT,
            env={**clean_environment(), **own, "TMPDIR": str(short_folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A terminal sends Ctrl-C to the whole process group.
            start_new_session=True,
        )
        try:
            # Before this line of output, the handlers of gunicorn and of Python itself apply.
            assert wait_for(lambda: "begun" in output_so_far())
            # Which moment of the start the signal hits depends on the machine. The test must pass at any moment.
            time.sleep(after)
            os.killpg(process.pid, sign)
            assert process.wait(20) in (0, -sign, 128 + sign)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert "Traceback" not in output_so_far()
        assert "xception" not in output_so_far()
        assert {file.name for file in short_folder.iterdir()} <= {"conf.py", "__pycache__"}


def test_an_ignored_sigint_stays_ignored() -> None:
    code = (
        "import os, signal; from gateway.system.cleanup import exit_quietly_on_signals;"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); exit_quietly_on_signals();"
        "os.kill(os.getpid(), signal.SIGINT); print('on'); os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-uc", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("on\n", "", -signal.SIGTERM)


def test_a_cleanup_that_fails_does_not_stop_the_exit() -> None:
    code = (
        "import os, signal; from gateway.system.cleanup import exit_quietly_on_signals, run_at_exit;"
        "run_at_exit(lambda: 1 / 0); exit_quietly_on_signals()\n"
        "try: os.kill(os.getpid(), signal.SIGTERM)\n"
        "except Exception: print('the start goes on')"
    )
    done = subprocess.run([sys.executable, "-uc", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", -signal.SIGTERM)
