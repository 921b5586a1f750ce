"""Moments as people and machines read them (RFC 3339)."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(seconds: float, timespec: str = "seconds") -> str:
    """Seconds since 1970 as `2026-11-24T03:42:25+00:00`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec)
