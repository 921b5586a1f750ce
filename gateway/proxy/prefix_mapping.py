"""Maps paths of clients to paths of a service: a prefix is forwarded as it is, stripped, or replaced by another."""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.config import ServiceSettings
from gateway.errors import BadPath

PATH_UNIT = re.compile(r"%..|.")


class PrefixMapping(NamedTuple):
    """How the paths below one prefix of a service are mapped. `client_prefix` is removed from a client's path and
    `service_prefix` is put in its place. The two are empty if paths are forwarded unchanged. `headers` announce a
    stripped prefix to the service. `document_prefix` replaces `client_prefix` in paths of the API document, which has
    each operation below the service's first prefix."""

    client_prefix: str = ""
    service_prefix: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    document_prefix: str = ""

    @classmethod
    def of(cls, service: ServiceSettings, prefix: str) -> PrefixMapping:
        """The mapping for requests below `prefix`, which is one of the service's prefixes."""
        outer = prefix.rstrip("/")
        if service.target_prefix is not None and not prefix == service.target_prefix == service.prefix:
            return cls(outer, service.target_prefix.rstrip("/"), (), service.prefix.rstrip("/"))
        if service.strip_prefix and outer:
            # Spring, Werkzeug and ASP.NET Core can be configured to put this prefix before the paths they generate.
            return cls(outer, "", (("X-Forwarded-Prefix", outer),), service.prefix.rstrip("/"))
        return UNCHANGED

    def service_path(self, raw_path: str, base_path: str) -> str:
        """The path for the service, made of the client's own bytes, below `base_path`. Raises BadPath if what follows a
        stripped prefix starts with two slashes: a service could read a host there (RFC 3986 4.2)."""
        if self.client_prefix:
            # The prefix is plain ASCII, so each of its characters is one unit of the raw path, escaped or not.
            raw_path = "".join(PATH_UNIT.findall(raw_path)[len(self.client_prefix) :])
            if not self.service_prefix:
                raw_path = raw_path or "/"
                if raw_path.startswith("//") and not base_path:
                    raise BadPath("the path has two slashes after its prefix")
        return f"{base_path}{self.service_prefix}{raw_path}"

    def document_path(self, path: str) -> str:
        """The path in the service's API document that corresponds to a client's path below `client_prefix`."""
        if self.client_prefix == self.document_prefix:
            return path
        return self.document_prefix + path[len(self.client_prefix) :] or "/"


UNCHANGED = PrefixMapping()
