"""Header fields: names with a meaning for HTTP, for proxies or for the gateway, and which of them are forwarded."""

from __future__ import annotations

import re

# A header as a list of (name, value): a mapping would lose repeated fields, such as Set-Cookie.
HeaderPairs = list[tuple[str, str]]

# Patterns of a field name and of a field value (RFC 9110 5.6.2 and 5.5). Neither matches the end of a line.
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105 - the RFC's word
TEXT = r"[\t\x20-\x7e\x80-\xff]*+"
# The largest number of names in each cache by header name. Clients and services choose the names, so their number has
# no bound.
CACHED_NAMES = 256

# Connection-specific fields (RFC 9110 7.6.1), and fields that are meant for the next hop only. RFC 2616, and therefore
# WSGI, called Trailer "trailers".
HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer trailers "
    "transfer-encoding upgrade http2-settings".split()
)
# Proxies and CDNs describe the client in these fields. Many services trust one of them, whoever has sent it.
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
# Request fields that the gateway sets itself, or that no client may send to a service. `Proxy`, for example, becomes
# the variable HTTP_PROXY in CGI and WSGI services, which then send their own requests to that proxy (CVE-2016-5385).
OWN_REQUEST_FIELDS = CLIENT_FIELDS | frozenset(
    "host content-length expect proxy x-request-id x-original-url x-rewrite-url x-http-method x-http-method-override "
    "x-method-override".split()
)
# Prefixes of fields that only a proxy may set, or that are meant for a proxy.
OWN_REQUEST_PREFIXES = ("x-gateway-", CLIENT_PREFIX, "proxy-")
# X-Forwarded-* fields that the gateway sets itself. Others, such as X-Forwarded-User, may be configured to hold a
# claim.
OWN_FORWARDED_FIELDS = frozenset("x-forwarded-for x-forwarded-host x-forwarded-prefix x-forwarded-proto".split())
# Fields of clients that the gateway forwards, changed or not. They have a meaning of their own, so they can't hold a
# claim.
OTHER_MEANINGS = frozenset(
    "authorization content-encoding content-type cookie max-forwards traceparent tracestate via".split()
)
SEPARATOR = re.compile("[^0-9a-z]")


def normal(name: str) -> str:
    """A field name in lower case, with `-` for every character that is no letter or digit. Some services treat names
    with the same result as one name: CGI and WSGI turn `-` into `_`, and some servers (lighttpd, older Apache) turn
    every other character into `_`, too."""
    return SEPARATOR.sub("-", name.lower())


def is_never_forwarded(normal_name: str) -> bool:
    """Whether a client's field with this name is never forwarded, whatever is configured."""
    return (
        normal_name in HOP_BY_HOP or normal_name in OWN_REQUEST_FIELDS or normal_name.startswith(OWN_REQUEST_PREFIXES)
    )


def may_hold_a_claim(name: str) -> bool:
    """Whether the configuration may send a claim to services in this field, which must have no other meaning."""
    lower = normal(name)
    # Services expect the user in fields such as X-Forwarded-User, which other proxies set.
    is_free = lower.startswith(CLIENT_PREFIX) and lower not in OWN_FORWARDED_FIELDS
    return lower not in OTHER_MEANINGS and (is_free or not is_never_forwarded(lower))
