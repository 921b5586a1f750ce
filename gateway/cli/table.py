"""Tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click


def printable(text: str) -> str:
    """The text in one line, and without what a terminal would obey: it may be a client's or a service's."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of cells, the first of them being the heading, each column as wide as it has to be."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
