"""Log lines go to the right file during a log rotation, and failures drop no later lines."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.telemetry import log_writer
from gateway.telemetry.log_writer import LineWriter, Output

LINES = [b"%06d" % number + b"." * 1000 + b"\n" for number in range(400)]


def test_a_write_under_way_stays_in_its_file_when_the_log_is_reopened(tmp_path: Path) -> None:
    pipe, bystander = tmp_path / "pipe", tmp_path / "bystander"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    output = Output(pipe)
    # The lines are longer than a pipe holds, so the writer waits for the reader halfway.
    writing = threading.Thread(target=output.write, args=(LINES,))
    writing.start()
    os.set_blocking(reader, True)
    while not (read := os.read(reader, 1000)):
        """The writer has not opened the pipe yet."""
    output.reopen()
    # If `reopen` had closed the pipe, this file would get its descriptor and the rest of the lines. In a gateway it
    # could be the connection of a client.
    other = os.open(bystander, os.O_WRONLY | os.O_CREAT)
    while len(read) < len(b"".join(LINES)) and (piece := os.read(reader, 65536)):
        read += piece
    writing.join()
    os.close(other)
    assert bystander.read_bytes() == b""
    assert read == b"".join(LINES)
    os.close(reader)


def test_lines_after_a_reopen_go_to_the_new_file(tmp_path: Path) -> None:
    log, moved = tmp_path / "log", tmp_path / "log.1"
    output = Output(log)
    output.write([b"one\n"])
    log.rename(moved)
    output.write([b"two\n"])
    output.reopen()
    output.write([b"three\n"])
    assert (moved.read_bytes(), log.read_bytes()) == (b"one\ntwo\n", b"three\n")


def test_lines_are_counted_as_lost_while_no_native_thread_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []
    has_lost = threading.Event()

    def count_lost(count: int) -> None:
        lost.append(count)
        has_lost.set()

    def refuse(_: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(log_writer, "run_in_native_thread", refuse)
    writer = LineWriter(Output(tmp_path / "log"), count_lost)
    writer.write([b"one\n", b"two\n"])
    assert has_lost.wait(30)
    monkeypatch.undo()
    writer.write([b"three\n"])
    writer.flush()
    assert lost == [2]
    assert (tmp_path / "log").read_bytes() == b"three\n"
