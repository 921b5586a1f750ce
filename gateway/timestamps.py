"""Moments (RFC 3339) and how long something took, as people and machines read them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def iso(seconds: float) -> str:
    """Seconds since 1970 as `2026-11-24T03:42:25+00:00`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def iso_milliseconds(seconds: float) -> str:
    """As `2026-11-24T03:42:25.123+00:00`; there are many within the same second."""
    whole = int(seconds)
    return f"{_beginning(whole)}.{int((seconds - whole) * 1000):03}+00:00"


def to_microseconds(seconds: float) -> float:
    """Seconds, rounded to six digits; `round` takes four times as long."""
    return int(seconds * 1e6 + 0.5) / 1e6


@lru_cache(maxsize=2)
def _beginning(second: int) -> str:
    return iso(second)[:19]
