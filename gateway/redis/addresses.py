"""Addresses of Redis nodes, as other nodes return them."""

from __future__ import annotations

import re

from redis.exceptions import InvalidResponse

Address = tuple[str, int]

# A name, or an IPv4 or IPv6 address.
HOST = re.compile(r"[A-Za-z0-9_.:%-]{1,255}")


def node_address(host: object, port: object) -> Address:
    """Checks the host and port in a reply. Raises InvalidResponse if they are no address."""
    if not isinstance(host, str) or HOST.fullmatch(host) is None or not isinstance(port, int) or not 0 < port < 65536:
        raise InvalidResponse("not the address of a server")
    return host, port
