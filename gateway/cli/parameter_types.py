"""Types of command-line arguments. A type is a function that converts the argument; click shows the function's name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_DURATION_SECONDS = 10 * 365 * 86400


def address(value: str) -> str:
    """An IPv4 or IPv6 address in its canonical form."""
    try:
        return str(ip_address(value))
    except ValueError:
        raise click.BadParameter(f"must be an IP address, got {value!r}") from None


def duration(value: str) -> int:
    """The whole seconds of a text such as 90s, 5m, 1h or 7d; from 1 second to 10 years."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", value)
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if not 0 < seconds <= MAX_DURATION_SECONDS:
        raise click.BadParameter(f"{value!r} is not a duration such as 90s, 5m, 1h or 7d")
    return seconds


def claim(value: str) -> tuple[str, Any]:
    """NAME=VALUE as name and value: the value is parsed as JSON if possible, else it is a text."""
    name, separator, text = value.partition("=")
    if not name or not separator:
        raise click.BadParameter(f"must be NAME=VALUE, got {value!r}")
    try:
        parsed = json.loads(text)
        # Python reads and writes NaN and Infinity, which are not JSON: no other library accepts such a token.
        json.dumps(parsed, allow_nan=False)
    except (ValueError, RecursionError):
        return name, text
    return name, parsed


def header_field(value: str) -> tuple[str, str]:
    """NAME:VALUE as name and value. An error does not quote the argument, which may be a secret."""
    name, separator, text = value.partition(":")
    if not separator:
        raise click.BadParameter("must be NAME:VALUE")
    return name, text.strip(" \t")


def claim_option(help_text: str) -> Callable[[Command], Command]:
    """The option --claim, which may be repeated; its value is a tuple of pairs."""
    return click.option("--claim", "claims", type=claim, multiple=True, metavar="NAME=VALUE", help=help_text)
