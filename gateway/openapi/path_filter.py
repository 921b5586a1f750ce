"""Patterns of paths: those that `docs.hidden` hides from clients, and those that `drift_ignore` ignores."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def path_matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A function that says whether a path template, as clients call it, matches one of the patterns.

    A segment `**` matches any number of segments, including none: `/api/devices/internal/**` matches the path itself.
    `*` matches any characters within a segment, a `{placeholder}` one whole segment. A final slash makes no
    difference."""
    expressions = [path_expression(pattern) for pattern in patterns]
    if not expressions:
        return lambda _: False
    matcher = re.compile("|".join(expressions))
    return lambda template: matcher.fullmatch(template.removesuffix("/") or "/") is not None


def path_expression(pattern: str) -> str:
    segments = pattern.removesuffix("/").removeprefix("/").split("/")
    return "".join(segment_expression(segment) for segment in segments if segment) or "/"


def segment_expression(segment: str) -> str:
    if segment == "**":
        return "(?:/.*)?"
    if re.fullmatch(r"\{[^{}]*\}", segment):
        return "/[^/]+"
    # Linear time for any path that a service may have: in an atomic group, each star ends at the first occurrence of
    # the text after it, and is not tried again.
    first, *rest = map(re.escape, re.split(r"\*+", segment))
    if not rest:
        return f"/{first}"
    return f"/{first}" + "".join(f"(?>[^/]*?{text})" for text in rest[:-1]) + f"[^/]*{rest[-1]}"
