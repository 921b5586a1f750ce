"""What long commands are doing at the moment: a line on a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

import click

Item = TypeVar("Item")


class ProgressLine:
    """One line on standard error that is written over and over; nothing where that is no terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def show(self, text: str) -> None:
        if self._is_shown:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)

    def clear(self) -> None:
        self.show("")


def progress(items: Collection[Item], text: Callable[[Item], str]) -> Iterator[Item]:
    """The items, one by one, each announced on standard error while it is worked at."""
    line = ProgressLine()
    for number, item in enumerate(items, 1):
        line.show(f"[{number}/{len(items)}] {text(item)}")
        yield item
    line.clear()
