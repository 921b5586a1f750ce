"""A target: one base URL of a service, parsed once."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


class Target(NamedTuple):
    """`authority` is the value for Host (RFC 9110 7.2). `base_path` precedes every path and has no final slash."""

    url: str
    is_tls: bool
    host: str
    port: int
    authority: str
    base_path: str

    @property
    def origin(self) -> str:
        """The URL without its path."""
        return f"{self.scheme}://{self.authority}"

    @property
    def scheme(self) -> str:
        return "https" if self.is_tls else "http"

    @classmethod
    def parse(cls, url: str) -> Target:
        """The target of a URL that the configuration has validated, or that the requests library has prepared."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        name = f"[{host}]" if ":" in host else host
        authority = name if port == DEFAULT_PORTS[parts.scheme] else f"{name}:{port}"
        return cls(url, parts.scheme == "https", host, port, authority, parts.path.rstrip("/"))
