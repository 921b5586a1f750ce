"""Reads README.md and docs/*.md for tests: blocks of code by their language, and commands with the output that the page
shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.gateway import ROOT

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
# In a shown output, this character stands for any text; on a line of its own, for any number of lines.
ELLIPSIS = "…"
HEADING = "\0"


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a page. `script` is what a reader pastes; `output` is what the page shows below it, or ""."""

    script: str
    output: str

    def shows(self, printed: str) -> bool:
        """Whether the command printed this output. Times and the widths of columns may differ."""
        pattern = "".join(
            r"(?:.*\n)*?" if line == ELLIPSIS else re.escape(line).replace(ELLIPSIS, ".*") + r"\n"
            for line in normalized(self.output)
        )
        return re.fullmatch(pattern, "".join(f"{line}\n" for line in normalized(printed))) is not None


def normalized(text: str) -> list[str]:
    """The lines with single spaces, and with placeholders for times and durations."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [re.sub(r"\b\d+ s\b", "N s", re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00|Z)?", "TIME", line)) for line in lines]


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def section(text: str, title: str) -> str:
    """The text below the heading `## TITLE`, up to the next heading of that level."""
    # Comments in code blocks also begin with #, so blocks are set aside while headings are searched.
    pieces = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    marked = "".join(
        piece if index % 2 else re.sub(r"^## ", HEADING, piece, flags=re.MULTILINE)
        for index, piece in enumerate(pieces)
    )
    (found,) = [one for one in marked.split(HEADING) if one.startswith(f"{title}\n")]
    return found


def commands(text: str) -> Iterator[Command]:
    """The commands of the `sh` blocks. A group of lines, with an empty line before and after it, is one command; lines
    at its end that begin with # are the output that the page shows."""
    for block in blocks(text, "sh"):
        for group in re.split(r"\n\n+", block.strip("\n")):
            lines = group.splitlines()
            count = max(index for index, line in enumerate(lines, 1) if not line.startswith("#"))
            shown = "".join(f"{line.removeprefix('#').removeprefix(' ')}\n" for line in lines[count:])
            yield Command("\n".join(lines[:count]), shown)
