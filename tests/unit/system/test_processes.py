"""Child processes never outlive their parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.system.processes import Child, has_ended
from tests.support.gateway import ROOT

WAITING = "import signal; print('ready', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITING.removeprefix('import signal; ')}"


def ended(pid: int, seconds: float = 20) -> bool:
    """Whether the process ends within the time. Its pidfd becomes readable when it ends."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def start(code: str, folder: Path) -> Child:
    """Starts a child that runs Python code with its output in a pipe. Waits for the first line of output."""
    pipe = folder / "log"
    os.mkfifo(pipe)
    child = Child.start([sys.executable, "-c", code], folder, pipe, {"ONLY": "this"})
    with pipe.open() as log:
        assert log.readline()
    return child


def test_folder_environment_and_log_are_passed_on(tmp_path: Path) -> None:
    code = (
        "import os, sys; print(os.getcwd(), sorted(set(os.environ) - {'LC_CTYPE'}), os.environ['ONLY'], flush=True);"
        "print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()), file=sys.stderr, flush=True)"
    )
    child = Child.start([sys.executable, "-c", code], tmp_path, tmp_path / "log", {"ONLY": "this"})
    assert ended(child.pid)
    assert (tmp_path / "log").read_text() == f"{tmp_path} ['ONLY'] this\nTrue ''\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert child.has_ended()


def test_a_missing_program_ends_at_once(tmp_path: Path) -> None:
    child = Child.start([str(tmp_path / "missing")], tmp_path, tmp_path / "log", {})
    assert ended(child.pid)
    assert child.has_ended()


def test_stop_ends_the_child(tmp_path: Path) -> None:
    child = start(WAITING, tmp_path)
    assert not child.has_ended()
    child.stop()
    assert child.has_ended()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    # Stopping the child again has no effect.
    child.stop()


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    child = start(STUBBORN, tmp_path)
    child.stop(timeout_seconds=0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_fork_of_the_parent_does_not_end_the_child(tmp_path: Path) -> None:
    child = start(WAITING, tmp_path)
    try:
        forked = os.fork()
        if forked == 0:
            child.stop()
            os._exit(0)
        assert os.waitpid(forked, 0) == (forked, 0)
        assert not child.has_ended()
    finally:
        child.stop()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_does_not_outlive_its_parent(sign: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import sys, signal; from pathlib import Path; from gateway.system.processes import Child;"
        f"folder = Path({str(tmp_path)!r});"
        f"child = Child.start([sys.executable, '-c', {WAITING!r}], folder, folder / 'log', {{}});"
        "print(child.pid, flush=True); signal.pause()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as output:
        pid = int(output.readline())
    assert not has_ended(pid)
    parent.send_signal(sign)
    assert parent.wait(20) == -sign
    assert ended(pid)


def test_a_process_of_another_user_has_not_ended() -> None:
    assert not has_ended(os.getppid())
    assert not has_ended(1)
