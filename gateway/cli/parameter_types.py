"""Types of command-line arguments: addresses, durations, claims, header fields."""

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


class AddressType(click.ParamType[str]):
    """An IPv4 or IPv6 address in its canonical form."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(ip_address(value))
        except ValueError:
            self.fail(f"must be an IP address, got {value!r}", param, ctx)


class DurationType(click.ParamType[int]):
    """90s, 5m, 1h, 7d: whole seconds, from 1 second to 10 years."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value))
        seconds = int(found[1]) * UNITS[found[2]] if found else 0
        if not 0 < seconds <= MAX_DURATION_SECONDS:
            self.fail(f"{value!r} is not a duration such as 90s, 5m, 1h or 7d", param, ctx)
        return seconds


class ClaimType(click.ParamType[tuple[str, Any]]):
    """NAME=VALUE as name and value: the value is parsed as JSON if possible, else it is a text."""

    name = "claim"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        name, separator, text = value.partition("=")
        if not name or not separator:
            self.fail(f"must be NAME=VALUE, got {value!r}", param, ctx)
        try:
            claim = json.loads(text)
            # Python reads and writes NaN and Infinity, which are not JSON: no other library accepts such a token.
            json.dumps(claim, allow_nan=False)
        except (ValueError, RecursionError):
            return name, text
        return name, claim


class HeaderFieldType(click.ParamType[tuple[str, str]]):
    """NAME:VALUE as name and value. An error does not quote the argument, which may be a secret."""

    name = "header field"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, separator, text = value.partition(":")
        if not separator:
            self.fail("must be NAME:VALUE", param, ctx)
        return name, text.strip(" \t")


ADDRESS = AddressType()
DURATION = DurationType()
HEADER_FIELD = HeaderFieldType()


def claim_option(help_text: str) -> Callable[[Command], Command]:
    """The option --claim, which may be repeated; its value is a tuple of pairs."""
    return click.option("--claim", "claims", type=ClaimType(), multiple=True, metavar="NAME=VALUE", help=help_text)
