"""Paths that clients are not told of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def hider(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a path template, as clients call it, is hidden by one of the patterns.

    `**` as a segment stands for any number of segments, none too: `/api/devices/internal/**` hides the path itself.
    `*` stands for any characters within a segment, a `{placeholder}` for one whole segment, whatever it is. A final
    slash changes nothing."""
    expressions = [expression_of(pattern) for pattern in patterns]
    if not expressions:
        return lambda _: False
    matcher = re.compile("|".join(expressions))
    return lambda template: matcher.fullmatch(template.removesuffix("/") or "/") is not None


def expression_of(pattern: str) -> str:
    segments = pattern.removesuffix("/").removeprefix("/").split("/")
    return "".join(expression_of_segment(segment) for segment in segments if segment) or "/"


def expression_of_segment(segment: str) -> str:
    if segment == "**":
        return "(?:/.*)?"
    if re.fullmatch(r"\{[^{}]*\}", segment):
        return "/[^/]+"
    # In linear time whatever a service calls its paths: each star ends where what follows it is met first, and that is
    # never tried again.
    first, *pieces = map(re.escape, re.split(r"\*+", segment))
    if not pieces:
        return f"/{first}"
    return f"/{first}" + "".join(f"(?>[^/]*?{piece})" for piece in pieces[:-1]) + f"[^/]*{pieces[-1]}"
