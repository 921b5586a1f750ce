"""Host and authority (RFC 9110 7.2): which values are accepted, and which hosts a pattern stands for."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

# Of the reg-name of RFC 3986 3.2.2, what names of hosts have (RFC 1035 2.3.4). Escapes and sub-delims (a comma, a
# semicolon, an equals sign) occur in no name, and mean something in lists and in Forwarded.
LABEL = r"[A-Za-z0-9_~-]{1,63}"
HOST = re.compile(rf"(?:({LABEL}(?:\.{LABEL})*\.?)|\[([0-9A-Fa-f:.]{{2,45}})\])(?::([0-9]{{0,5}}))?")
MOST_CHARACTERS = 255
LAST_PORT = 65535
# What a Host without a port may stand for.
DEFAULT_PORTS = frozenset(["80", "443"])
# Clients choose their Host, so that there may be many.
HOSTS_KNOWN = 256


class Host(NamedTuple):
    """`name` is in lower case and without a final dot, an IP address in its usual form; `port` is "" without one."""

    name: str
    port: str

    @property
    def is_local(self) -> bool:
        """Whether no name server has a say in where it leads: an IP address, or a loopback name (RFC 6761 6.3)."""
        return is_address(self.name) or self.name == "localhost" or self.name.endswith(".localhost")


@lru_cache(maxsize=HOSTS_KNOWN)
def read_host(text: str) -> Host | None:
    """A Host field's value, or an authority without user information; None where it is neither."""
    found = HOST.fullmatch(text) if len(text) <= MOST_CHARACTERS else None
    if found is None or int(found[3] or 0) > LAST_PORT:
        return None
    name = found[1]
    if name is None:
        try:
            name = str(IPv6Address(found[2]))
        except ValueError:
            return None
    port = found[3] or ""
    return Host(name.lower().removesuffix("."), port and str(int(port)))


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class HostPattern(NamedTuple):
    """`api.example.com`, or `*.example.com` for all names below; for one port where there is one."""

    host: Host
    is_wildcard: bool

    def matches(self, host: Host) -> bool:
        name, port = self.host
        fits = host.name.endswith("." + name) if self.is_wildcard else host.name == name
        return fits and (not port or host.port == port or (not host.port and port in DEFAULT_PORTS))


def read_host_pattern(text: str) -> HostPattern | None:
    """None where the text is no pattern of hosts."""
    is_wildcard = text.startswith("*.")
    host = read_host(text.removeprefix("*."))
    if host is None or not host.name or (is_wildcard and is_address(host.name)):
        return None
    return HostPattern(host, is_wildcard)
