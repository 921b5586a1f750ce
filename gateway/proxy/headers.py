"""Which header fields pass, which are changed and which are dropped: pure functions over lists of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

Pairs = list[tuple[str, str]]

# Connection-specific fields (RFC 9110 7.6.1), and those that only the next hop may believe.
HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    "upgrade http2-settings".split()
)
# Made anew by the gateway for every request, or none of a client's business: it must not be able to speak for it. To a
# CGI or WSGI service a client's `Proxy` is HTTP_PROXY, by which it would send its own requests (CVE-2016-5385).
OWN_REQUEST_FIELDS = frozenset(
    "host content-length expect forwarded front-end-https proxy x-client-ip x-real-ip x-request-id x-original-host "
    "x-original-url x-rewrite-url x-http-method x-http-method-override x-method-override".split()
)
# What a proxy says, and what a client has no business to say to one.
OWN_REQUEST_PREFIXES = ("x-gateway-", "x-forwarded-", "proxy-")
# Names of fields may be long, and are whatever somebody chose.
NAMES_KNOWN = 256
OWN_RESPONSE_FIELDS = frozenset(["x-request-id", "x-gateway-error"])


class ClientSide(NamedTuple):
    """What the gateway knows of the client's connection. `peer` is the socket's address, `address` the client's."""

    peer: str
    address: str
    scheme: str
    host: str


def normal(name: str) -> str:
    """A field name as a service may read it: any case, and _ for - (CGI and WSGI can't tell them apart)."""
    return name.lower().replace("_", "-")


def connection_options(pairs: Iterable[tuple[str, str]]) -> set[str]:
    """The field names that Connection lists (RFC 9110 7.6.1)."""
    values = [value for name, value in pairs if name.lower() == "connection"]
    return {option.strip().lower() for value in values for option in value.split(",")} if values else set()


def forwarded_fields(pairs: Sequence[tuple[str, str]], identity_names: frozenset[str]) -> Pairs:
    """The client's fields that may go on, in order. `identity_names`: the normal names that only the gateway sets."""
    dropped = connection_options(pairs)
    passing = [pair for pair in pairs if may_be_forwarded(pair[0], identity_names)]
    return [pair for pair in passing if normal(pair[0]) not in dropped] if dropped else passing


@lru_cache(maxsize=NAMES_KNOWN)
def may_be_forwarded(name: str, identity_names: frozenset[str]) -> bool:
    lower = normal(name)
    return not (
        lower in HOP_BY_HOP
        or lower in OWN_REQUEST_FIELDS
        or lower in identity_names
        or lower.startswith(OWN_REQUEST_PREFIXES)
    )


def proxy_fields(received: Sequence[tuple[str, str]], client: ClientSide, trusted_hops: int) -> Pairs:
    """X-Forwarded-* and Forwarded (RFC 7239): fresh for an untrusted peer, appended behind `trusted_hops` proxies."""
    addresses, elements, host, scheme = [], [], client.host, client.scheme
    if trusted_hops:
        for name, value in received:
            lower = name.lower()
            if lower == "x-forwarded-for":
                addresses.append(value)
            elif lower == "forwarded":
                elements.append(value)
            elif lower == "x-forwarded-host":
                host = value
            elif lower == "x-forwarded-proto":
                scheme = value
    node = f'"[{client.peer}]"' if ":" in client.peer else client.peer
    own_element = f"for={node};proto={client.scheme}"
    if client.host:
        own_element += f';host="{client.host}"'
    fields = [
        ("X-Forwarded-For", ", ".join([*addresses, client.peer])),
        ("X-Forwarded-Proto", scheme),
        ("Forwarded", ", ".join([*elements, own_element])),
    ]
    if host:
        fields.append(("X-Forwarded-Host", host))
    return fields


def client_address(peer: str, forwarded_for: Sequence[str], trusted_hops: int) -> str:
    """The client's address: the peer's, or what the outermost of the trusted proxies saw.

    `forwarded_for`: the values of X-Forwarded-For in order."""
    if not trusted_hops:
        return peer
    seen = [part.strip() for value in forwarded_for for part in value.split(",")]
    if not seen:
        return peer
    candidate = seen[-min(trusted_hops, len(seen))]
    try:
        return str(ip_address(candidate.strip("[]")))
    except ValueError:
        return peer


def answered_fields(pairs: Sequence[tuple[str, str]]) -> Pairs:
    """The upstream's fields that the client gets, in order: not hop-by-hop, not CORS, not the gateway's own."""
    dropped = connection_options(pairs)
    passing = [pair for pair in pairs if may_be_answered(pair[0])]
    return [pair for pair in passing if pair[0].lower() not in dropped] if dropped else passing


@lru_cache(maxsize=NAMES_KNOWN)
def may_be_answered(name: str) -> bool:
    lower = name.lower()
    return not (lower in HOP_BY_HOP or lower in OWN_RESPONSE_FIELDS or lower.startswith("access-control-"))


def rewrite_location(value: str, authority: str, base_path: str, stripped_prefix: str) -> str:
    """Location, relative to the gateway where it names the target itself; any other place stays as it is.

    `authority` is the target's host:port as the request named it; RFC 9110 10.2.2 allows a relative reference."""
    for scheme in ("http://", "https://", "//"):
        start = scheme + authority
        if value[: len(start)].lower() == start.lower() and value[len(start) : len(start) + 1] in ("", "/", "?", "#"):
            rest = value[len(start) :]
            rest = rest if rest.startswith("/") else "/" + rest
            break
    else:
        if not value.startswith("/") or value.startswith("//"):
            return value
        rest = value
    if base_path and (rest == base_path or rest.startswith(base_path + "/")):
        rest = rest[len(base_path) :] or "/"
    # "//host" would be another place again.
    return stripped_prefix + ("/" + rest.lstrip("/") if rest.startswith("//") else rest)
