"""A target: one base URL of a service, taken apart once."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


class Target(NamedTuple):
    """`authority` is what goes into Host (RFC 9110 7.2); `base_path` comes before every path, without final slash."""

    url: str
    is_tls: bool
    host: str
    port: int
    authority: str
    base_path: str

    @property
    def origin(self) -> str:
        """The URL without a path."""
        return f"{'https' if self.is_tls else 'http'}://{self.authority}"

    @classmethod
    def parse(cls, url: str) -> Target:
        """The target of a URL that the configuration has checked, or that requests has prepared."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        name = f"[{host}]" if ":" in host else host
        authority = name if port == DEFAULT_PORTS[parts.scheme] else f"{name}:{port}"
        return cls(url, parts.scheme == "https", host, port, authority, parts.path.rstrip("/"))
