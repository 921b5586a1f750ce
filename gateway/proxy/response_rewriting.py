"""Rewrites Location, Content-Location and the paths of cookies, so that they work for clients of the gateway.

Values are parsed as browsers parse them (WHATWG URL Standard): a backslash is a slash, and tabs are ignored.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gateway.http_fields import CACHED_NAMES
from gateway.proxy.target import DEFAULT_PORTS

URL = re.compile(r"(?:([a-z][a-z0-9+.-]*):)?//([^/\\?#]*)(.*)", re.IGNORECASE)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
# Two slashes start a host, as in //host/path.
NETWORK_PATH = re.compile(r"[/\\]{2}")
LEADING_SLASHES = re.compile(r"[/\\]+")
PATH_END = re.compile(r"[?#]")
COOKIE_PATH = re.compile(r"(;[ \t]*path[ \t]*=[ \t]*)(/[^;]*)", re.IGNORECASE)
LOCATIONS = frozenset(["location", "content-location"])


class ResponseRewriter(NamedTuple):
    """Rewrites the headers of one response. `service_hosts` are the hosts, with ports, by which the service may name
    itself. `client_request_target` is the path and query that the client requested, `service_path` the path that the
    target received.

    A path of the target starts with `base_path` and `service_prefix`; a path of the client starts with `client_prefix`
    instead. Each of the three is "" if there is none."""

    client_scheme: str
    client_host: str
    target_scheme: str
    service_hosts: tuple[str, ...]
    client_request_target: str
    service_path: str
    base_path: str
    client_prefix: str
    service_prefix: str = ""

    @property
    def is_path_mapped(self) -> bool:
        """Whether a resource has different paths for clients and for the target."""
        return bool(self.client_prefix or self.base_path or self.service_prefix)

    def rewrite(self, name: str, value: str) -> str:
        """The rewritten value of a header for which `is_rewritten` is true."""
        return self.location(value) if name.lower() in LOCATIONS else self.cookie(value)

    def location(self, value: str) -> str:
        """The value of Location or Content-Location for the client. A URL or path of the service itself becomes a path
        of the gateway (RFC 9110 10.2.2). Any other value is unchanged."""
        reference = value.replace("\t", "")
        if found := URL.match(reference):
            scheme = (found[1] or self.client_scheme).lower()
            if not self._is_own(scheme, found[2]):
                return value
            own = self._for_client(found[3])
            # A service that redirects from http to https would otherwise redirect the client to the same URL forever.
            is_client_host = is_same_authority(scheme, found[2], self.client_host)
            is_loop = (
                is_client_host and scheme != self.client_scheme and own.partition("#")[0] == self.client_request_target
            )
            return value if is_loop else own
        if NETWORK_PATH.match(reference):
            return value
        if reference[:1] in ("/", "\\"):
            return self._for_client(reference) if self.is_path_mapped else value
        # A query, a fragment or an empty reference is relative to the request's own path.
        if (
            not (self.client_prefix or self.service_prefix)
            or reference[:1] in ("", "?", "#")
            or SCHEME.match(reference)
        ):
            return value
        # A relative reference is resolved here, against the path that the service received. The client would resolve it
        # differently after a request for the bare prefix (/orders): the service does not see that last segment.
        folder = self.service_path[: self.service_path.rindex("/") + 1]
        path, rest = split(folder + reference)
        path = without_dot_segments(path)
        if self.service_prefix:
            return self._path_for_client(path) + rest
        return self.client_prefix + without_prefix(path, self.base_path) + rest

    def cookie(self, value: str) -> str:
        """The value of Set-Cookie for the client: its Path is mapped to a path of the client, the rest is unchanged."""
        # Browsers accept a __Host- cookie only with the path / (RFC 6265bis 4.1.3.2).
        if not self.is_path_mapped or value.lstrip().lower().startswith("__host-"):
            return value
        return COOKIE_PATH.sub(self._cookie_path, value)

    def _cookie_path(self, found: re.Match[str]) -> str:
        path = found[2].rstrip(" \t")
        own = self._path_for_client(path)
        if own == f"{self.client_prefix}/":
            own = self.client_prefix or "/"
        return found[1] + own + found[2][len(path) :]

    def _is_own(self, scheme: str, authority: str) -> bool:
        """Whether a URL with this scheme and authority names the service itself."""
        if scheme not in (self.client_scheme, self.target_scheme):
            return False
        return any(is_same_authority(scheme, authority, host) for host in self.service_hosts)

    def _for_client(self, reference: str) -> str:
        """Maps a path of the target, with query and fragment, to the path for the client."""
        path, rest = split(reference)
        return self._path_for_client(path or "/") + rest

    def _path_for_client(self, path: str) -> str:
        if path[0] == "\\":
            path = "/" + path[1:]
        if self.is_path_mapped:
            path = without_dot_segments(path)
        if self.service_prefix:
            return self._path_with_replaced_prefix(path)
        own = without_prefix(path, self.base_path)
        if own == path and self.client_prefix and is_at_or_below(path, self.client_prefix):
            # The service itself has put the client's prefix, as announced in X-Forwarded-Prefix, before the path.
            return self.client_prefix + without_prefix(path[len(self.client_prefix) :], self.base_path)
        return self._below_client_prefix(own or "/")

    def _path_with_replaced_prefix(self, path: str) -> str:
        """The path for the client if the request had `service_prefix` in the place of `client_prefix`. A path that is
        not below `service_prefix` belongs to another service, so it gets no prefix."""
        replaced = self.base_path + self.service_prefix
        if is_at_or_below(path, replaced):
            own = path[len(replaced) :]
            return self.client_prefix + own if self.client_prefix else one_leading_slash(own or "/")
        return one_leading_slash(without_prefix(path, self.base_path) or "/")

    def _below_client_prefix(self, path: str) -> str:
        return self.client_prefix + path if self.client_prefix else one_leading_slash(path)


@lru_cache(maxsize=CACHED_NAMES)
def is_rewritten(name: str) -> bool:
    lower = name.lower()
    return lower in LOCATIONS or lower == "set-cookie"


def split(reference: str) -> tuple[str, str]:
    """Splits a reference into the path, and the query and fragment."""
    end = PATH_END.search(reference)
    return (reference[: end.start()], reference[end.start() :]) if end else (reference, "")


def is_at_or_below(path: str, base: str) -> bool:
    return path.startswith(base) and path[len(base) : len(base) + 1] in ("", "/", "\\")


def without_prefix(path: str, base: str) -> str:
    """The path below `base`; any other path unchanged."""
    return path[len(base) :] if base and is_at_or_below(path, base) else path


def one_leading_slash(path: str) -> str:
    """Reduces the slashes at the start to one: clients would read what follows two slashes as a host."""
    return LEADING_SLASHES.sub("/", path, count=1)


def is_same_authority(scheme: str, one: str, other: str) -> bool:
    """Whether two authorities are equal under this scheme, whose default port may be omitted (RFC 3986 6.2.3)."""
    port = f":{DEFAULT_PORTS.get(scheme, '')}"
    return one.lower().removesuffix(port) == other.lower().removesuffix(port)


def without_dot_segments(path: str) -> str:
    """Resolves the segments `.` and `..` (RFC 3986 5.2.4)."""
    if "/." not in path:
        return path
    resolved: list[str] = []
    segments = path.split("/")[1:]
    if segments[-1] in (".", ".."):
        segments.append("")
    for segment in segments:
        if segment == "..":
            resolved = resolved[:-1]
        elif segment != ".":
            resolved.append(segment)
    return "/" + "/".join(resolved)
