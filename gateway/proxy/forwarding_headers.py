"""Who the client is: by its connection alone, or by the forwarding fields of the trusted proxies in front.

Each trusted proxy adds one entry to the end of a list, or replaces the list. Counted from the end, entry number
`trusted_hops` is what the outermost trusted proxy saw of the client; a shorter list is believed as a whole. Entries
before that one are the client's own claims and are dropped. All that services learn about the client is made of what
was accepted here, so that no two fields contradict each other.
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
# Clients that are remembered, and the length of the texts by which one may be: together less than 2 MB.
CLIENTS_REMEMBERED = 1024
MOST_CHARACTERS = 512
IPV6_PREFIX = 64  # what one customer gets: an address alone would be as many callers as one likes

# RFC 7239 6: an address, an IPv6 one in brackets, perhaps with a port, which may be obfuscated.
NODE = re.compile(
    r"(?:\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)(?:%[\w.-]+)?\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[\w.-]+))?", re.ASCII
)
OBFUSCATED = re.compile(r"_[\w.-]+", re.ASCII)
# A parameter of an element of Forwarded, and what follows it. Some proxies leave out the quotes that [, ] and : need.
PARAMETER = re.compile(r'[ \t]*(?:([!#$%&\'*+.^`|~\w-]+)=([^\s",;\\]+|"(?:[^"\\]|\\.)*+"))?[ \t]*([,;]|\Z)', re.ASCII)
QUOTED_PAIR = re.compile(r"\\(.)")
TO_BE_ESCAPED = re.compile(r'(["\\])')


class ClientInfo(NamedTuple):
    """The client as it was accepted. `peer` is the connection's own address; `address`, `scheme` and `host` are the
    client's, as far as they are known. `fields` are the forwarding fields by which services learn of it."""

    peer: str
    address: str
    scheme: str
    host: str
    fields: tuple[tuple[str, str], ...]


def resolve_client(
    peer: str,
    scheme: str,
    host: str,
    trusted_hops: int = 0,
    family: ForwardingFamily = "x-forwarded",
    said: tuple[str, ...] = (),
) -> ClientInfo:
    """The client of a connection from `peer`. `said` is what the proxies in front say: the values of X-Forwarded-For,
    -Proto and -Host, "" for one that is absent; or those of Forwarded (RFC 7239), one for each line."""
    is_short = len(host) + (sum(map(len, said)) if said else 0) < MOST_CHARACTERS
    read = remembered if is_short else read_client
    return read(peer, scheme, host, trusted_hops, family, said)


def read_client(
    peer: str, scheme: str, host: str, trusted_hops: int, family: ForwardingFamily, said: tuple[str, ...]
) -> ClientInfo:
    peer = address_in(peer) or UNKNOWN
    if not said:
        nodes, schemes, hosts = list[str](), list[str](), list[str]()
    elif family == "x-forwarded":
        nodes, schemes, hosts = (last_entries(value, trusted_hops) for value in said)
    else:
        elements = last_elements(said, trusted_hops)
        nodes = [element.get("for", "") for element in elements]
        schemes, hosts = ([element[name] for element in elements if name in element] for name in ("proto", "host"))
    nodes = [node_in(node) for node in nodes]
    # Of a client that can't be known, the nearest that is known is the connection.
    address = nodes[0] if nodes and is_address(nodes[0]) else peer
    if schemes and schemes[0].lower() in SCHEMES:
        scheme = schemes[0].lower()
    if hosts and read_host(hosts[0]) is not None:
        host = hosts[0]
    return ClientInfo(peer, address, scheme, host, tuple(forwarding_fields([*nodes, peer], scheme, host)))


remembered = lru_cache(CLIENTS_REMEMBERED)(read_client)


def forwarding_fields(nodes: Sequence[str], scheme: str, host: str) -> Iterator[tuple[str, str]]:
    """X-Forwarded-* and Forwarded (RFC 7239). `nodes` are the client, the proxies and the connection's peer."""
    yield "X-Forwarded-For", ", ".join(node if is_address(node) else UNKNOWN for node in nodes)
    yield "X-Forwarded-Proto", scheme
    first = f";proto={scheme}" + (f";host={quoted(host)}" if host else "")
    elements = [f"for={quoted(f'[{node}]') if ':' in node else node}" for node in nodes]
    yield "Forwarded", ", ".join([elements[0] + first, *elements[1:]])
    if host:
        yield "X-Forwarded-Host", host


def last_entries(value: str, count: int) -> list[str]:
    """The last entries of a list, the first of them first. An empty entry is one: somebody wrote it."""
    return [unquoted(entry.strip(" \t")) for entry in value.rsplit(",", count)[-count:]] if value else []


def last_elements(lines: Sequence[str], count: int) -> list[dict[str, str]]:
    """The last elements of Forwarded, each with its parameters. Before a line that can't be read nothing is."""
    found: list[dict[str, str]] = []
    for line in reversed(lines):
        elements = elements_of(line)
        found = [*(elements or [{}]), *found]
        if elements is None or len(found) >= count:
            break
    return found[-count:]


def elements_of(line: str) -> list[dict[str, str]] | None:
    """The elements of a line of Forwarded; None where it is malformed."""
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
    """The address of a node of a forwarding field, else its obfuscated identifier, else `unknown`."""
    found = NODE.fullmatch(text)
    address = address_in((found[1] or found[2]) if found else text)
    return address or (text if OBFUSCATED.fullmatch(text) else UNKNOWN)


def is_address(node: str) -> bool:
    return node != UNKNOWN and not node.startswith("_")


def address_in(text: str) -> str | None:
    """The address in its usual form, an IPv4-mapped one (RFC 4291 2.5.5.2) as IPv4, without a zone; None for no
    address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str((address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address)


def quoted(text: str) -> str:
    """The text as a quoted-string (RFC 9110 5.6.4)."""
    return '"' + TO_BE_ESCAPED.sub(r"\\\1", text) + '"'


def unquoted(text: str) -> str:
    """What a quoted-string stands for; any other text as it is."""
    return QUOTED_PAIR.sub(r"\1", text[1:-1]) if len(text) > 1 and text[0] == text[-1] == '"' else text


def rate_limit_address(address: str) -> str:
    """The address, or the /64 network of an IPv6 one. Not an address (a unix socket's peer): as it is."""
    if ":" not in address:
        return address or "unknown"
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Network((parsed, IPV6_PREFIX), strict=False))
    return address
