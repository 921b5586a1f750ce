"""Which header fields pass, which are changed and which are dropped: pure functions over lists of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

Pairs = list[tuple[str, str]]

# Connection-specific fields (RFC 9110 7.6.1), and those that only the next hop may believe.
HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    "upgrade http2-settings".split()
)
# By these, proxies and CDNs say who asks them and how. Many services believe one or another, whoever sent it.
CLIENT_FIELDS = frozenset(
    "akamai-origin-hop ali-cdn-real-ip cdn-real-ip cdn-src-ip cf-connecting-ip cf-connecting-ip6 cf-connecting-ipv6 "
    "cf-pseudo-ipv4 cf-visitor client-ip cloudfront-forwarded-proto cloudfront-viewer-address "
    "do-connecting-ip fastly-client fastly-client-ip fastly-ssl fly-client-ip fly-forwarded-port fly-forwarded-proto "
    "fly-forwarded-ssl forwarded forwarded-for forwarded-host forwarded-proto front-end-https http-client-ip "
    "incap-client-ip remote-addr remote-ip true-client-ip wl-proxy-client-ip wl-proxy-ssl x-appengine-remote-addr "
    "x-appengine-user-ip x-arr-clientcert x-arr-ssl x-azure-clientip x-azure-socketip x-client-ip x-cluster-client-ip "
    "x-coming-from x-envoy-external-address x-envoy-original-host x-envoy-original-path x-forwarded "
    "x-http-host-override x-ms-forwarded-client-ip x-nf-client-connection-ip x-original-forwarded-for x-original-host "
    "x-proxyuser-ip x-real-ip x-real-port x-remote-addr x-remote-ip x-scheme x-sucuri-clientip x-url-scheme "
    "x-vercel-forwarded-for x-vercel-proxied-for x-wap-client-ip".split()
)
CLIENT_PREFIX = "x-forwarded-"
# Of those with that prefix, the ones that the gateway makes.
OWN_FORWARDED_FIELDS = frozenset("x-forwarded-for x-forwarded-host x-forwarded-prefix x-forwarded-proto".split())
# Made anew by the gateway for every request, or none of a client's business: it must not be able to speak for it. To a
# CGI or WSGI service a client's `Proxy` is HTTP_PROXY, by which it would send its own requests (CVE-2016-5385).
OWN_REQUEST_FIELDS = CLIENT_FIELDS | frozenset(
    "host content-length expect proxy x-request-id x-original-url x-rewrite-url x-http-method x-http-method-override "
    "x-method-override".split()
)
# What a proxy says, and what a client has no business to say to one.
OWN_REQUEST_PREFIXES = ("x-gateway-", CLIENT_PREFIX, "proxy-")
# Names of fields may be long, and are whatever somebody chose.
NAMES_KNOWN = 256
MOST_FORWARDS = 1000
# The gateway's own; and Alt-Svc, by which clients would go on to ask the service past the gateway (RFC 7838).
NOT_FOR_CLIENTS = frozenset(["x-request-id", "x-gateway-error", "alt-svc"])


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
    return lower not in identity_names and not is_never_forwarded(lower)


def is_never_forwarded(normal_name: str) -> bool:
    """Whether no client's field of this name goes on to a service, whatever is configured."""
    return (
        normal_name in HOP_BY_HOP or normal_name in OWN_REQUEST_FIELDS or normal_name.startswith(OWN_REQUEST_PREFIXES)
    )


def max_forwards(pairs: Sequence[tuple[str, str]]) -> int | None:
    """How many more times the request may be forwarded (RFC 9110 7.6.2); None where that is not said in one number."""
    values = [value for name, value in pairs if name.lower() == "max-forwards"]
    if len(values) != 1 or not (values[0].isascii() and values[0].isdigit()):
        return None
    # Of a longer number its first digits are MOST_FORWARDS or more already.
    return min(int(values[0].lstrip("0")[:4] or 0), MOST_FORWARDS)


def with_one_forward_less(pairs: Pairs) -> Pairs:
    """The fields of a request that counts how often it may be forwarded, and is."""
    left = max_forwards(pairs)
    if not left:
        return pairs
    return [(name, str(left - 1)) if name.lower() == "max-forwards" else (name, value) for name, value in pairs]


@lru_cache(maxsize=NAMES_KNOWN)
def tells_of_a_proxy(name: str) -> bool:
    """Whether the field says that its request came through a proxy."""
    lower = normal(name)
    return lower == "via" or lower in CLIENT_FIELDS or lower.startswith(CLIENT_PREFIX)


def answered_fields(pairs: Sequence[tuple[str, str]]) -> Pairs:
    """The upstream's fields that the client gets, in order: not hop-by-hop, not CORS, not the gateway's own."""
    dropped = connection_options(pairs)
    passing = [pair for pair in pairs if may_be_answered(pair[0])]
    return [pair for pair in passing if pair[0].lower() not in dropped] if dropped else passing


@lru_cache(maxsize=NAMES_KNOWN)
def may_be_answered(name: str) -> bool:
    lower = name.lower()
    return not (lower in HOP_BY_HOP or lower in NOT_FOR_CLIENTS or lower.startswith("access-control-"))
