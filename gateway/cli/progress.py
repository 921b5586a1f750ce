"""What long commands are doing at the moment: a line on a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

import click

Item = TypeVar("Item")


def progress(items: Collection[Item], text: Callable[[Item], str]) -> Iterator[Item]:
    """The items, one by one, each announced on standard error while it is worked at."""
    is_shown = sys.stderr.isatty()
    for number, item in enumerate(items, 1):
        if is_shown:
            click.echo(f"\r\x1b[K[{number}/{len(items)}] {text(item)}", nl=False, err=True)
        yield item
    if is_shown:
        click.echo("\r\x1b[K", nl=False, err=True)
