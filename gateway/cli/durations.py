"""Durations on the command line: 90s, 5m, 1h, 7d."""

from __future__ import annotations

import re
from typing import Any

import click

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_SECONDS = 10 * 365 * 86400


class Duration(click.ParamType[int]):
    """Whole seconds, from 1 second to 10 years."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value))
        seconds = int(found[1]) * UNITS[found[2]] if found else 0
        if not 0 < seconds <= MAX_SECONDS:
            self.fail(f"{value!r} is not a duration such as 90s, 5m, 1h or 7d", param, ctx)
        return seconds


DURATION = Duration()
