"""Matches paths with patterns: those of the settings `docs.hidden` and `drift_ignore`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence


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
    return "/" + linear_expression(re.split(r"\*+", segment), "[^/]*")


def linear_expression(texts: Sequence[str], wildcard: str) -> str:
    """A regular expression for the texts with a wildcard between each two of them. It matches in linear time, however
    many wildcards it has: each but the last is in an atomic group, so it ends at the first occurrence of the text after
    it and is not tried with a longer match."""
    first, *rest = map(re.escape, texts)
    if not rest:
        return first
    return first + "".join(f"(?>{wildcard}?{text})" for text in rest[:-1]) + wildcard + rest[-1]
