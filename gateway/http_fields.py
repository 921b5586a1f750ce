"""Names of header fields with a meaning of their own: for HTTP, for proxies, for the gateway."""

from __future__ import annotations

import re

# A header as a list of (name, value): a mapping would lose repeated fields, such as Set-Cookie.
HeaderPairs = list[tuple[str, str]]

# Patterns of a name and of a value (RFC 9110 5.6.2 and 5.5). Neither matches the end of a line.
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105 - the RFC's word
TEXT = r"[\t\x20-\x7e\x80-\xff]*+"
# Size of each cache by header name. Clients and services choose the names, so the number of names has no bound.
CACHED_NAMES = 256

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
# Made anew by the gateway for every request, or none of a client's business: it must not be able to speak for it. To a
# CGI or WSGI service a client's `Proxy` is HTTP_PROXY, by which it would send its own requests (CVE-2016-5385).
OWN_REQUEST_FIELDS = CLIENT_FIELDS | frozenset(
    "host content-length expect proxy x-request-id x-original-url x-rewrite-url x-http-method x-http-method-override "
    "x-method-override".split()
)
# What a proxy says, and what a client has no business to say to one.
OWN_REQUEST_PREFIXES = ("x-gateway-", CLIENT_PREFIX, "proxy-")
# Of those, the ones that the gateway makes; the others (X-Forwarded-User) are free for what it says of a caller.
OWN_FORWARDED_FIELDS = frozenset("x-forwarded-for x-forwarded-host x-forwarded-prefix x-forwarded-proto".split())
# Fields of clients that go on, changed or not: a claim must not be written into them either.
OTHER_MEANINGS = frozenset(
    "authorization content-encoding content-type cookie max-forwards traceparent tracestate via".split()
)
SEPARATOR = re.compile("[^0-9a-z]")


def normal(name: str) -> str:
    """A field name as a service may read it: any case, and - for all else that is no letter or digit. CGI and WSGI
    can't tell _ from -, and some servers (lighttpd, older Apache) make _ of every other character for their scripts."""
    return SEPARATOR.sub("-", name.lower())


def is_never_forwarded(normal_name: str) -> bool:
    """Whether no client's field of this name goes on to a service, whatever is configured."""
    return (
        normal_name in HOP_BY_HOP or normal_name in OWN_REQUEST_FIELDS or normal_name.startswith(OWN_REQUEST_PREFIXES)
    )


def may_hold_a_claim(name: str) -> bool:
    """Whether services may be told something of the caller in this field: it has no other meaning."""
    lower = normal(name)
    # Services behind other proxies know their users by X-Forwarded-User and the like.
    is_free = lower.startswith(CLIENT_PREFIX) and lower not in OWN_FORWARDED_FIELDS
    return lower not in OTHER_MEANINGS and (is_free or not is_never_forwarded(lower))
