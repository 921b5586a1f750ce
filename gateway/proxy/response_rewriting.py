"""What answers say of places at the service, put as clients of the gateway can use it: redirects and cookies' paths.

Values are read as browsers read them (the URL standard of WHATWG): a backslash is a slash, and tabs are left out.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gateway.http_fields import CACHED_NAMES
from gateway.proxy.target import DEFAULT_PORTS

URL = re.compile(r"(?:([a-z][a-z0-9+.-]*):)?//([^/\\?#]*)(.*)", re.IGNORECASE)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
# Reads as //host: another place.
NETWORK_PATH = re.compile(r"[/\\]{2}")
LEADING_SLASHES = re.compile(r"[/\\]+")
PATH_END = re.compile(r"[?#]")
COOKIE_PATH = re.compile(r"(;[ \t]*path[ \t]*=[ \t]*)(/[^;]*)", re.IGNORECASE)
LOCATIONS = frozenset(["location", "content-location"])


class ResponseRewriter(NamedTuple):
    """How an answer's places stand to the client's. `client_scheme` and `client_host` are the client's; `target_scheme`
    is the target's, and `names` are the authorities by which the service may name itself. `asked` is the path and
    query that the client asked for, `asked_of_target` the path that the target was asked for.

    A path of the client's is one of the target's less `base_path` and `inner_prefix`, behind `prefix`, which was
    stripped or took the place of `inner_prefix`; each is "" where there is none."""

    client_scheme: str
    client_host: str
    target_scheme: str
    names: tuple[str, ...]
    asked: str
    asked_of_target: str
    base_path: str
    prefix: str
    inner_prefix: str = ""

    @property
    def is_moved(self) -> bool:
        """Whether clients and the service have different paths for the same thing."""
        return bool(self.prefix or self.base_path or self.inner_prefix)

    def field(self, name: str, value: str) -> str:
        """The value of a field of which `names_a_place` is true."""
        return self.location(value) if name.lower() in LOCATIONS else self.cookie(value)

    def location(self, value: str) -> str:
        """Location or Content-Location: relative to the gateway where it names the service itself (RFC 9110 10.2.2),
        else as it is."""
        reference = value.replace("\t", "")
        if found := URL.match(reference):
            scheme = (found[1] or self.client_scheme).lower()
            if not self._is_own(scheme, found[2]):
                return value
            own = self._outside(found[3])
            # A service that only wants to be asked by https would ask for that again and again.
            is_client_host = self._is_same(scheme, found[2], self.client_host)
            comes_back = is_client_host and scheme != self.client_scheme and own.partition("#")[0] == self.asked
            return value if comes_back else own
        if NETWORK_PATH.match(reference):
            return value
        if reference[:1] in ("/", "\\"):
            return self._outside(reference) if self.is_moved else value
        # A reference of a query or fragment alone, or an empty one, is to what was asked.
        if not (self.prefix or self.inner_prefix) or reference[:1] in ("", "?", "#") or SCHEME.match(reference):
            return value
        # To the client the last segment of the bare prefix is one that `..` leaves, to the service it is not there.
        folder = self.asked_of_target[: self.asked_of_target.rindex("/") + 1]
        path, rest = split(folder + reference)
        path = without_dot_segments(path)
        if self.inner_prefix:
            return self._path_outside(path) + rest
        if self.base_path and is_at_or_below(path, self.base_path):
            path = path[len(self.base_path) :]
        return self.prefix + path + rest

    def cookie(self, value: str) -> str:
        """Set-Cookie with its Path as the client asks for it, all else untouched."""
        # Browsers take such a cookie with the path / alone (RFC 6265bis 4.1.3.2).
        if not self.is_moved or value.lstrip().lower().startswith("__host-"):
            return value
        return COOKIE_PATH.sub(self._cookie_path, value)

    def _cookie_path(self, found: re.Match[str]) -> str:
        path = found[2].rstrip(" \t")
        own = self._path_outside(path)
        if own == f"{self.prefix}/":
            own = self.prefix or "/"
        return found[1] + own + found[2][len(path) :]

    def _is_own(self, scheme: str, authority: str) -> bool:
        """Whether the URL's scheme and authority are the service's own, or those by which the client asked for it."""
        if scheme not in (self.client_scheme, self.target_scheme):
            return False
        return any(self._is_same(scheme, authority, name) for name in self.names)

    @staticmethod
    def _is_same(scheme: str, authority: str, other: str) -> bool:
        return without_default_port(authority, scheme) == without_default_port(other, scheme)

    def _outside(self, reference: str) -> str:
        """A path of the target's, with query and fragment, as the client asks for it."""
        path, rest = split(reference)
        return self._path_outside(path or "/") + rest

    def _path_outside(self, path: str) -> str:
        if path[0] == "\\":
            path = "/" + path[1:]
        if self.is_moved:
            path = without_dot_segments(path)
        if self.inner_prefix:
            return self._path_behind_other_prefix(path)
        if self.base_path and is_at_or_below(path, self.base_path):
            path = path[len(self.base_path) :]
        elif self.prefix and is_at_or_below(path, self.prefix):
            # Of a service that puts X-Forwarded-Prefix in front by itself.
            path = path[len(self.prefix) :]
            if self.base_path and is_at_or_below(path, self.base_path):
                path = path[len(self.base_path) :]
            return self.prefix + path
        return self.prefix + (path or "/") if self.prefix else LEADING_SLASHES.sub("/", path or "/", count=1)

    def _path_behind_other_prefix(self, path: str) -> str:
        """Where another prefix took the place of the client's, what is not below it belongs to somebody else."""
        if is_at_or_below(path, self.base_path + self.inner_prefix):
            own = path[len(self.base_path + self.inner_prefix) :]
            return self.prefix + own if self.prefix else LEADING_SLASHES.sub("/", own or "/", count=1)
        if self.base_path and is_at_or_below(path, self.base_path):
            path = path[len(self.base_path) :] or "/"
        return LEADING_SLASHES.sub("/", path, count=1)


@lru_cache(maxsize=CACHED_NAMES)
def names_a_place(name: str) -> bool:
    """Whether values of the field are to be put as clients can use them."""
    lower = name.lower()
    return lower in LOCATIONS or lower == "set-cookie"


def split(reference: str) -> tuple[str, str]:
    """The path, and the query and fragment."""
    end = PATH_END.search(reference)
    return (reference[: end.start()], reference[end.start() :]) if end else (reference, "")


def is_at_or_below(path: str, base: str) -> bool:
    return path.startswith(base) and path[len(base) : len(base) + 1] in ("", "/", "\\")


def without_default_port(authority: str, scheme: str) -> str:
    """The authority, to be compared with others under the same scheme (RFC 3986 6.2.3)."""
    return authority.lower().removesuffix(f":{DEFAULT_PORTS.get(scheme, '')}")


def without_dot_segments(path: str) -> str:
    """RFC 3986 5.2.4."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    if segments[-1] in (".", ".."):
        segments.append("")
    for segment in segments:
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)
