"""Parses the Host header and other authorities (RFC 9110 7.2), and patterns of hosts."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

# The part of reg-name (RFC 3986 3.2.2) that host names use (RFC 1035 2.3.4). Escapes and sub-delims are refused: they
# occur in no host name, and comma, semicolon and equals sign separate the elements of lists and of Forwarded.
LABEL = r"[A-Za-z0-9_~-]{1,63}"
HOST = re.compile(rf"(?:({LABEL}(?:\.{LABEL})*\.?)|\[([0-9A-Fa-f:.]{{2,45}})\])(?::([0-9]{{0,5}}))?")
MOST_CHARACTERS = 255
LAST_PORT = 65535
# Default ports: a Host without a port may mean either.
DEFAULT_PORTS = frozenset(["80", "443"])
# The largest number of hosts in the cache. Clients choose the Host, so the number of values has no bound.
HOSTS_KNOWN = 256


class Host(NamedTuple):
    """A host: `name` in lower case without a final dot, or a canonical IP address; `port` is "" without one."""

    name: str
    port: str

    @property
    def is_local(self) -> bool:
        """True if no name server is needed to resolve the host: an IP address, or a loopback name (RFC 6761 6.3)."""
        return is_address(self.name) or self.name == "localhost" or self.name.endswith(".localhost")


@lru_cache(maxsize=HOSTS_KNOWN)
def read_host(text: str) -> Host | None:
    """Parses the value of a Host header, or an authority without user information. None if it is malformed."""
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
    """A pattern of hosts: `api.example.com`, or `*.example.com` for all names below it. A pattern with a port matches
    only this port."""

    host: Host
    is_wildcard: bool

    def matches(self, host: Host) -> bool:
        name, port = self.host
        fits = host.name.endswith("." + name) if self.is_wildcard else host.name == name
        return fits and (not port or host.port == port or (not host.port and port in DEFAULT_PORTS))


def read_host_pattern(text: str) -> HostPattern | None:
    """Parses a pattern; None if it is malformed."""
    is_wildcard = text.startswith("*.")
    host = read_host(text.removeprefix("*."))
    if host is None or not host.name or (is_wildcard and is_address(host.name)):
        return None
    return HostPattern(host, is_wildcard)
