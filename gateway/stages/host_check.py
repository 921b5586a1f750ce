"""Checks the Host header against `server.allowed_hosts`.

This prevents DNS rebinding: the owner of a page points the name of the page to the gateway's address. The browser of
somebody inside the network then sends the page's requests to the gateway, and lets the page read the responses, as they
are of its own origin. Only the Host header shows which name the browser used."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from flask import Flask, request

from gateway import context
from gateway.errors import Misdirected
from gateway.hosts import HOSTS_KNOWN, HostPattern, read_host, read_host_pattern

# Load balancers send probes to an address or to any name.
PROBES = frozenset(["gateway.healthz", "gateway.readyz"])


def install(app: Flask, allowed: Sequence[str]) -> ServedHosts:
    """Registers the stage if there are patterns to check."""
    hosts = ServedHosts(allowed)
    if allowed:
        app.before_request(hosts.check)
    return hosts


class ServedHosts:
    """The hosts that are served. `allowed` holds the patterns of `server.allowed_hosts`. Without patterns all hosts are
    served, except for the paths of operators."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._patterns: list[HostPattern] = [pattern for text in allowed if (pattern := read_host_pattern(text))]
        self._is_listed = lru_cache(HOSTS_KNOWN)(self._matches)

    def check(self) -> None:
        """Raises Misdirected if the host of the request is not allowed."""
        # A page can set X-Forwarded-Host in requests to its own origin, but not Host. Both are checked.
        named, client = named_host(), context.current().client
        is_served = self._is_listed(named) and (client.host == named or self._is_listed(client.host))
        if not is_served and request.endpoint not in PROBES:
            raise Misdirected("server.allowed_hosts does not list this host")

    def check_operators(self) -> None:
        """The check for paths of operators: accepts names whose address nobody else controls (localhost, IP addresses)
        and listed hosts. A request without Host does not come from a browser. Raises Misdirected."""
        named = named_host()
        host = read_host(named)
        if named and not (host is not None and host.is_local) and not self._is_listed(named):
            raise Misdirected("the host must be localhost, an IP address, or listed in server.allowed_hosts")

    def _matches(self, named: str) -> bool:
        host = read_host(named)
        return host is not None and any(pattern.matches(host) for pattern in self._patterns)


def named_host() -> str:
    """The value of the current request's Host header; empty without one."""
    host: str = context.current().environ.get("HTTP_HOST", "")
    return host
