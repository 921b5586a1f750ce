"""Which hosts are served, which ends DNS rebinding: a page whose name leads to the gateway's address may read what the
gateway answers to the browser of somebody inside, as it is of the page's origin. Only Host tells."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from flask import Flask, request

from gateway import context
from gateway.errors import Misdirected
from gateway.hosts import HOSTS_KNOWN, HostPattern, read_host, read_host_pattern

# Load balancers ask by address, or by any name.
PROBES = frozenset(["gateway.healthz", "gateway.readyz"])


def install(app: Flask, allowed: Sequence[str]) -> ServedHosts:
    """Adds the stage, where there is something to check."""
    hosts = ServedHosts(allowed)
    if allowed:
        app.before_request(hosts.check)
    return hosts


class ServedHosts:
    """`allowed` are patterns (`server.allowed_hosts`); without any, all hosts are served, but for operators' paths."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._patterns: list[HostPattern] = [pattern for text in allowed if (pattern := read_host_pattern(text))]
        self._is_listed = lru_cache(HOSTS_KNOWN)(self._matches)

    def check(self) -> None:
        """The stage that runs where there are patterns. Raises Misdirected."""
        # A page may send X-Forwarded-Host to its own origin, but not another Host: both are checked.
        named, client = named_host(), context.current().client
        is_served = self._is_listed(named) and (client.host == named or self._is_listed(client.host))
        if not is_served and request.endpoint not in PROBES:
            raise Misdirected("this host is not among server.allowed_hosts")

    def check_operators(self) -> None:
        """For what operators alone may read: by names that no stranger can have lead here, and those that are listed.
        A request without Host is no browser's. Raises Misdirected."""
        named = named_host()
        host = read_host(named)
        if named and not (host is not None and host.is_local) and not self._is_listed(named):
            raise Misdirected("here it must be localhost, an IP address, or among server.allowed_hosts")

    def _matches(self, named: str) -> bool:
        host = read_host(named)
        return host is not None and any(pattern.matches(host) for pattern in self._patterns)


def named_host() -> str:
    """The Host that the current request names, "" for none."""
    host: str = context.current().environ.get("HTTP_HOST", "")
    return host
