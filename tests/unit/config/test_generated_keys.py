"""The generated secret: created once, also by concurrent processes, readable by its owner only, refused if damaged."""

from __future__ import annotations

import multiprocessing
import os
import stat
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from gateway.config.generated_keys import generated_secret
from gateway.errors import ConfigurationError

RACERS = 4
RACES = 25


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def errors_at(folder: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        generated_secret(folder)
    return caught.value.errors


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "instance"
    secret = generated_secret(folder)
    assert len(secret) >= 32
    assert secret.isascii()
    assert secret.isprintable()
    assert generated_secret(folder) == secret
    assert [path.name for path in folder.iterdir()] == ["jwt-secret"]
    assert generated_secret(tmp_path / "another") != secret


def test_only_its_owner_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        generated_secret(tmp_path / "instance")
    finally:
        os.umask(old)
    assert mode(tmp_path / "instance" / "jwt-secret") == 0o600
    assert mode(tmp_path / "instance") == 0o700


def race(folder: Path, start: Barrier, found: Queue[list[str]]) -> None:
    secrets = []
    for number in range(RACES):
        start.wait(60)
        secrets.append(generated_secret(folder / str(number)))
    found.put(secrets)


def test_processes_that_start_at_once_have_the_same_one(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, found = spawn.Barrier(RACERS), spawn.Queue()
    racers = [spawn.Process(target=race, args=(tmp_path, start, found)) for _ in range(RACERS)]
    for racer in racers:
        racer.start()
    seen = [found.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0] * RACERS
    for number in range(RACES):
        folder = tmp_path / str(number)
        assert {secrets[number] for secrets in seen} == {(folder / "jwt-secret").read_text()}
        # The drafts that the other processes wrote are removed.
        assert [path.name for path in folder.iterdir()] == ["jwt-secret"]
        assert mode(folder / "jwt-secret") == 0o600
    assert len({secret for secrets in seen for secret in secrets}) == RACES


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"short",
        b"x" * 31,
        b"\x00" * 64,
        b"\xff\xfe" * 40,
        "ä".encode() * 40,
        b"two words " * 5,
        b"x" * 40 + b"\ny",
    ],
)
def test_a_damaged_one_is_neither_used_nor_replaced(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "jwt-secret"
    path.write_bytes(content)
    assert errors_at(tmp_path) == [f"jwt.secret: the generated one in {str(path)!r} is damaged; remove the file"]
    assert path.read_bytes() == content


def test_what_an_editor_adds_at_the_end_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "jwt-secret").write_text("x" * 40 + "\r\n")
    assert generated_secret(tmp_path) == "x" * 40


def cannot(folder: Path, reason: str) -> list[str]:
    return [f"jwt.secret: is not set, and none can be generated in {str(folder)!r}: {reason}"]


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "instance"
    assert errors_at(folder) == cannot(folder, "Not a directory")


def test_something_else_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "jwt-secret"
    path.mkdir(parents=True)
    assert errors_at(tmp_path / "folder") == [f"jwt.secret: {str(path)!r} can't be read: Is a directory"]
    (tmp_path / "link").mkdir()
    link = tmp_path / "link" / "jwt-secret"
    link.symlink_to(tmp_path / "nowhere")
    assert errors_at(tmp_path / "link") == [f"jwt.secret: {str(link)!r} can't be read: No such file or directory"]
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert errors_at(tmp_path) == cannot(tmp_path, "Permission denied")
    tmp_path.chmod(0o700)


def test_a_full_disk_leaves_no_draft_behind(tmp_path: Path) -> None:
    # RLIMIT_FSIZE has the effect of a full disk on a single process.
    spawn = multiprocessing.get_context("spawn")
    found = spawn.Queue()
    process = spawn.Process(target=run_out_of_space, args=(tmp_path, found))
    process.start()
    assert found.get(timeout=60) == cannot(tmp_path, "File too large")
    process.join(60)
    assert list(tmp_path.iterdir()) == []


def run_out_of_space(folder: Path, found: Queue[list[str]]) -> None:
    import resource  # noqa: PLC0415 - not on every platform
    import signal  # noqa: PLC0415

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))
    try:
        generated_secret(folder)
        found.put([])
    except ConfigurationError as error:
        found.put(error.errors)
