"""The temporary folders of a process exist while it lives, and are removed after its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.gateway import ROOT

MAKE = """
import os, sys
pid = int(sys.argv[1])
if pid:
    # Like a master in another container, whose process id means nothing here or is one's own.
    os.getpid = lambda: pid
from gateway.system.folders import make_own_folder
print(make_own_folder("gateway-test-"), flush=True)
if "fork" in sys.argv and os.fork() == 0:
    print("forked", flush=True)
sys.stdin.read()
"""
NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
HAS_NAMESPACES = shutil.which("unshare") and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0


@contextmanager
def owner(
    folder: Path, pid: int = 0, *words: str, before: Sequence[str] = ()
) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """Starts a process that makes its own folder in this one. The process ends with the `with` block."""
    with subprocess.Popen(
        [*before, sys.executable, "-c", MAKE, str(pid), *words],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield Path(process.stdout.readline().strip()), process


def make_and_end(folder: Path) -> None:
    """Starts another process that makes a folder in the same place, and ends it."""
    with owner(folder) as (made, _):
        assert made.stat().st_mode & 0o777 == 0o700
    assert not made.exists()


@pytest.mark.parametrize("pid", [0, 1, 2**22 + 1])
def test_a_folder_stays_while_its_owner_lives(tmp_path: Path, pid: int) -> None:
    with owner(tmp_path, pid) as (made, process):
        make_and_end(tmp_path)
        assert made.is_dir()
        process.kill()
        process.wait()
        assert made.is_dir()
        make_and_end(tmp_path)
        assert not made.exists()


@pytest.mark.skipif(not HAS_NAMESPACES, reason="there are no namespaces of processes to be had")
def test_containers_that_share_tmp_do_not_remove_each_others_folders(tmp_path: Path) -> None:
    with owner(tmp_path, before=NAMESPACE) as (made, _), owner(tmp_path, before=NAMESPACE) as (other, _):
        assert made.name.startswith("gateway-test-1-")
        assert other.name.startswith("gateway-test-1-")
        make_and_end(tmp_path)
        assert made.is_dir()
        assert other.is_dir()


def test_a_folder_stays_while_a_fork_of_its_owner_lives(tmp_path: Path) -> None:
    with owner(tmp_path, 0, "fork") as (made, process):
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        process.kill()
        process.wait()
        make_and_end(tmp_path)
        assert made.is_dir()


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "of somebody").mkdir()
    (tmp_path / "gateway-test-1-link").symlink_to(tmp_path / "of somebody")
    (tmp_path / "gateway-test-1-file").touch()
    make_and_end(tmp_path)
    assert (tmp_path / "of somebody").is_dir()
    assert (tmp_path / "gateway-test-1-file").exists()
