"""The client's address, scheme and host: from the connection, or from the forwarding headers of trusted proxies.

Each forwarding header is a list. Each trusted proxy appends one entry to the list, or replaces the list. Counted from
the end, entry number `trusted_hops` is what the outermost trusted proxy saw of the client; a list with fewer entries is
trusted as a whole. Earlier entries are the client's own claims and are dropped. Everything that services learn about
the client is derived from the accepted entries, so no two headers contradict each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Literal, NamedTuple

from gateway.hosts import read_host

ForwardingFamily = Literal["x-forwarded", "forwarded"]

UNKNOWN = "unknown"
SCHEMES = frozenset(["http", "https"])
# How many clients are cached, and up to which length of their headers. The cache takes less than 2 MB.
CACHED_CLIENTS = 1024
MAX_CACHED_CHARACTERS = 512
# An internet provider gives each customer a /64 network or more. If single addresses were counted, a customer could
# evade every limit by using another address.
IPV6_PREFIX = 64

# A node (RFC 7239 6): an IPv6 address in brackets or an IPv4 address, and optionally a port, which may be obfuscated.
NODE = re.compile(
    r"(?:\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)(?:%[\w.-]+)?\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[\w.-]+))?", re.ASCII
)
OBFUSCATED = re.compile(r"_[\w.-]+", re.ASCII)
# A parameter of an element of Forwarded and the separator after it. Some proxies omit the quotes that [, ] and : need.
PARAMETER = re.compile(r'[ \t]*(?:([!#$%&\'*+.^`|~\w-]+)=([^\s",;\\]+|"(?:[^"\\]|\\.)*+"))?[ \t]*([,;]|\Z)', re.ASCII)
QUOTED_PAIR = re.compile(r"\\(.)")
NEEDS_ESCAPE = re.compile(r'(["\\])')


class ClientInfo(NamedTuple):
    """`peer` is the address of the connection. `address`, `scheme` and `host` are what trusted proxies report of the
    client, else those of the connection. `headers` are the forwarding headers that services receive."""

    peer: str
    address: str
    scheme: str
    host: str
    headers: tuple[tuple[str, str], ...]


def resolve_client(
    peer: str,
    scheme: str,
    host: str,
    trusted_hops: int = 0,
    family: ForwardingFamily = "x-forwarded",
    reported: tuple[str, ...] = (),
) -> ClientInfo:
    """The client of a connection from `peer`. `reported` has the headers of the proxies in front: the values of
    X-Forwarded-For, -Proto and -Host, "" for one that is absent; or the lines of Forwarded (RFC 7239)."""
    is_short = len(host) + (sum(map(len, reported)) if reported else 0) < MAX_CACHED_CHARACTERS
    resolve = resolve_cached if is_short else resolve_uncached
    return resolve(peer, scheme, host, trusted_hops, family, reported)


def resolve_uncached(
    peer: str, scheme: str, host: str, trusted_hops: int, family: ForwardingFamily, reported: tuple[str, ...]
) -> ClientInfo:
    peer = address_in(peer) or UNKNOWN
    if not reported:
        nodes, schemes, hosts = list[str](), list[str](), list[str]()
    elif family == "x-forwarded":
        nodes, schemes, hosts = (last_entries(value, trusted_hops) for value in reported)
    else:
        elements = last_elements(reported, trusted_hops)
        nodes = [element.get("for", "") for element in elements]
        schemes, hosts = ([element[name] for element in elements if name in element] for name in ("proto", "host"))
    nodes = [node_in(node) for node in nodes]
    # If the client's address is unknown or obfuscated, the peer's address is used instead.
    address = nodes[0] if nodes and is_address(nodes[0]) else peer
    if schemes and schemes[0].lower() in SCHEMES:
        scheme = schemes[0].lower()
    if hosts and read_host(hosts[0]) is not None:
        host = hosts[0]
    return ClientInfo(peer, address, scheme, host, tuple(forwarding_headers([*nodes, peer], scheme, host)))


resolve_cached = lru_cache(CACHED_CLIENTS)(resolve_uncached)


def forwarding_headers(nodes: Sequence[str], scheme: str, host: str) -> Iterator[tuple[str, str]]:
    """X-Forwarded-* and Forwarded (RFC 7239). `nodes` are the client, the proxies and the connection's peer."""
    yield "X-Forwarded-For", ", ".join(node if is_address(node) else UNKNOWN for node in nodes)
    yield "X-Forwarded-Proto", scheme
    first = f";proto={scheme}" + (f";host={quoted(host)}" if host else "")
    elements = [f"for={quoted(f'[{node}]') if ':' in node else node}" for node in nodes]
    yield "Forwarded", ", ".join([elements[0] + first, *elements[1:]])
    if host:
        yield "X-Forwarded-Host", host


def last_entries(value: str, count: int) -> list[str]:
    """The last entries of a comma-separated list, in order. An empty entry counts, as some proxy has added it."""
    return [unquoted(entry.strip(" \t")) for entry in value.rsplit(",", count)[-count:]] if value else []


def last_elements(lines: Sequence[str], count: int) -> list[dict[str, str]]:
    """The last elements of Forwarded, each as a dict of its parameters. A malformed line counts as one element without
    parameters, and lines before it are ignored."""
    found: list[dict[str, str]] = []
    for line in reversed(lines):
        elements = elements_of(line)
        found = [*(elements or [{}]), *found]
        if elements is None or len(found) >= count:
            break
    return found[-count:]


def elements_of(line: str) -> list[dict[str, str]] | None:
    """The elements of a line of Forwarded, or None if it is malformed."""
    elements: list[dict[str, str]] = [{}]
    position = 0
    while found := PARAMETER.match(line, position):
        name, value, end = found.groups()
        if name:
            if name.lower() in elements[-1]:
                return None
            elements[-1][name.lower()] = unquoted(value)
        if end == ",":
            elements.append({})
        elif not end:
            return elements
        position = found.end()
    return None


def node_in(text: str) -> str:
    """The address of a node, else its obfuscated identifier, else `unknown` (RFC 7239 6)."""
    found = NODE.fullmatch(text)
    address = address_in((found[1] or found[2]) if found else text)
    return address or (text if OBFUSCATED.fullmatch(text) else UNKNOWN)


def is_address(node: str) -> bool:
    return node != UNKNOWN and not node.startswith("_")


def address_in(text: str) -> str | None:
    """The address in canonical form: without a zone, and as IPv4 if it is IPv4-mapped (RFC 4291 2.5.5.2). None if the
    text is no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str((address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address)


def quoted(text: str) -> str:
    """The text as a quoted-string (RFC 9110 5.6.4)."""
    return '"' + NEEDS_ESCAPE.sub(r"\\\1", text) + '"'


def unquoted(text: str) -> str:
    """The value of a quoted-string; any other text unchanged."""
    return QUOTED_PAIR.sub(r"\1", text[1:-1]) if len(text) > 1 and text[0] == text[-1] == '"' else text


def rate_limit_address(address: str) -> str:
    """The address by which a client is counted: IPv6 clients by their /64 network. Anything but an address, such as a
    principal's key, is returned unchanged."""
    if ":" not in address:
        return address or UNKNOWN
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Network((parsed, IPV6_PREFIX), strict=False))
    return address
