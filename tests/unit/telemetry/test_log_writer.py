"""Where lines go while somebody moves the file away."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.telemetry import log_writer
from gateway.telemetry.log_writer import LineWriter, Output

LINES = [b"%06d" % number + b"." * 1000 + b"\n" for number in range(400)]


def test_a_write_under_way_stays_in_its_own_file_when_it_is_to_be_opened_anew(tmp_path: Path) -> None:
    pipe, bystander = tmp_path / "pipe", tmp_path / "bystander"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    output = Output(pipe)
    # More than a pipe holds: it waits for its reader in the middle.
    writing = threading.Thread(target=output.write, args=(LINES,))
    writing.start()
    os.set_blocking(reader, True)
    while not (read := os.read(reader, 1000)):
        """Nobody has opened it for writing yet."""
    output.reopen()
    # Would get the descriptor's number, were that free by now: in a gateway this may be a client's connection.
    other = os.open(bystander, os.O_WRONLY | os.O_CREAT)
    while len(read) < len(b"".join(LINES)) and (piece := os.read(reader, 65536)):
        read += piece
    writing.join()
    os.close(other)
    assert bystander.read_bytes() == b""
    assert read == b"".join(LINES)
    os.close(reader)


def test_what_comes_after_that_goes_to_the_file_of_the_name(tmp_path: Path) -> None:
    log, moved = tmp_path / "log", tmp_path / "log.1"
    output = Output(log)
    output.write([b"one\n"])
    log.rename(moved)
    output.write([b"two\n"])
    output.reopen()
    output.write([b"three\n"])
    assert (moved.read_bytes(), log.read_bytes()) == (b"one\ntwo\n", b"three\n")


def test_where_there_is_no_thread_to_write_in_later_lines_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []
    told = threading.Event()

    def tell(count: int) -> None:
        lost.append(count)
        told.set()

    def refuse(_: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(log_writer, "run_in_native_thread", refuse)
    writer = LineWriter(Output(tmp_path / "log"), tell)
    writer.write([b"one\n", b"two\n"])
    assert told.wait(30)
    monkeypatch.undo()
    writer.write([b"three\n"])
    writer.finish()
    assert lost == [2]
    assert (tmp_path / "log").read_bytes() == b"three\n"
