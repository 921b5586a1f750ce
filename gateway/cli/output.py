"""What commands print and how they end: tables, progress, exit codes, a standard output that can't be written."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NoReturn, TypeVar

import click

Item = TypeVar("Item")

# Exit code of a command that could not do its work. The others are 0 (done, or yes) and 1 (refused, or no).
COULD_NOT_RUN = 2


class CouldNotRun(click.ClickException):
    """The command could not run, or could not find out what it was asked for."""

    exit_code = COULD_NOT_RUN


def printable(text: str) -> str:
    """The text as one line, with control characters escaped: the text of a client or service could control the
    terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of cells in aligned columns. The first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def progress_bar(
    items: Iterable[tuple[str, Item]], label: str, length: int
) -> AbstractContextManager[Iterable[tuple[str, Item]]]:
    """Iterates over the named items. While an item is in use, a progress bar with its name is shown on standard error,
    if that is a terminal."""
    return click.progressbar(
        items,
        length=length,
        label=label,
        item_show_func=lambda item: item and item[0],
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    )


class ExitingStdout(io.TextIOWrapper):
    """Standard output that ends the process if a write fails, without a traceback: on a full disk with a message, on a
    closed pipe silently, because its reader has read enough."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._exit(error)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._exit(error)

    def _exit(self, error: OSError) -> NoReturn:
        # The interpreter flushes the rest of the buffer at exit. That would fail again, so the rest goes to /dev/null.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, self.fileno())
        os.close(devnull)
        if error.errno != errno.EPIPE:
            print(f"Error: standard output can't be written: {error.strerror}", file=sys.stderr)
        sys.exit(COULD_NOT_RUN)


def exit_when_stdout_fails() -> None:
    """Makes `sys.stdout` an ExitingStdout in the process of a command, unless it is missing or not a file."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not isinstance(sys.stdout, ExitingStdout):
        # The original would close the file if it were garbage-collected, but sys.__stdout__ still refers to it.
        original = sys.stdout
        sys.stdout = ExitingStdout(
            original.buffer,
            encoding=original.encoding,
            errors=original.errors,
            line_buffering=original.line_buffering,
        )
