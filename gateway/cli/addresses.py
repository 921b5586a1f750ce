"""IP addresses on the command line."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import click


class Address(click.ParamType[str]):
    """An IPv4 or IPv6 address, as Python writes it."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(ip_address(value))
        except ValueError:
            self.fail(f"must be an IP address, got {value!r}", param, ctx)


ADDRESS = Address()
