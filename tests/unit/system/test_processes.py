"""Child processes: started as told, ended when asked, and never left behind."""

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
    """Whether the process ends within the time: a file descriptor of a process is readable once it has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def start(code: str, folder: Path) -> Child:
    """A child that runs Python code, its output in a pipe: as long as nothing came, it has not begun."""
    pipe = folder / "log"
    os.mkfifo(pipe)
    child = Child.start([sys.executable, "-c", code], folder, pipe, {"ONLY": "this"})
    with pipe.open() as log:
        assert log.readline()
    return child


def test_it_runs_where_and_with_what_it_is_told(tmp_path: Path) -> None:
    code = (
        "import os, sys; print(os.getcwd(), sorted(set(os.environ) - {'LC_CTYPE'}), os.environ['ONLY'], flush=True);"
        "print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()), file=sys.stderr, flush=True)"
    )
    child = Child.start([sys.executable, "-c", code], tmp_path, tmp_path / "log", {"ONLY": "this"})
    assert ended(child.pid)
    assert (tmp_path / "log").read_text() == f"{tmp_path} ['ONLY'] this\nTrue ''\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert child.has_ended()


def test_a_program_that_is_not_there_ends_at_once(tmp_path: Path) -> None:
    child = Child.start([str(tmp_path / "missing")], tmp_path, tmp_path / "log", {})
    assert ended(child.pid)
    assert child.has_ended()


def test_stop_ends_it(tmp_path: Path) -> None:
    child = start(WAITING, tmp_path)
    assert not child.has_ended()
    child.stop()
    assert child.has_ended()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    # Once more does nothing.
    child.stop()


def test_who_does_not_listen_is_made_to_end(tmp_path: Path) -> None:
    child = start(STUBBORN, tmp_path)
    child.stop(timeout_seconds=0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_only_the_process_that_started_it_ends_it(tmp_path: Path) -> None:
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
def test_it_does_not_outlive_its_parent(sign: signal.Signals, tmp_path: Path) -> None:
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


def test_a_process_of_someone_else_goes_on() -> None:
    assert not has_ended(os.getppid())
    assert not has_ended(1)
