"""What becomes of a service's prefix on the way: it goes on as it is, is stripped, or another one takes its place."""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.config import ServiceSettings
from gateway.errors import BadPath

PATH_UNIT = re.compile(r"%..|.")


class PrefixMapping(NamedTuple):
    """`taken_off` is what clients write before the path that the service has below `put_before`; both are empty where
    paths go on as they are. `fields` tell the service of a prefix that it does not see. `documented` takes
    the place of `taken_off` in paths of the API document, which has each operation below the service's `prefix`."""

    taken_off: str = ""
    put_before: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    documented: str = ""

    @classmethod
    def of(cls, service: ServiceSettings, prefix: str) -> PrefixMapping:
        """The one for requests below this one of the service's prefixes."""
        outer = prefix.rstrip("/")
        if service.target_prefix is not None and not prefix == service.target_prefix == service.prefix:
            return cls(outer, service.target_prefix.rstrip("/"), (), service.prefix.rstrip("/"))
        if service.strip_prefix and outer:
            # What services that honour it put in front of the paths that they name (Spring, Werkzeug, ASP.NET Core).
            return cls(outer, "", (("X-Forwarded-Prefix", outer),), service.prefix.rstrip("/"))
        return UNCHANGED

    def service_path(self, raw_path: str, base_path: str) -> str:
        """The path that the service is asked for: the client's own bytes behind `base_path`. Raises BadPath where a
        service could take what is behind a stripped prefix for a host (RFC 3986 4.2)."""
        if self.taken_off:
            # The prefix is plain ASCII, so each of its characters is one unit of the raw path, escaped or not.
            raw_path = "".join(PATH_UNIT.findall(raw_path)[len(self.taken_off) :])
            if not self.put_before:
                raw_path = raw_path or "/"
                if raw_path.startswith("//") and not base_path:
                    raise BadPath("the path has two slashes behind its prefix")
        return f"{base_path}{self.put_before}{raw_path}"

    def documented_path(self, path: str) -> str:
        """A path below any of the service's prefixes as its document has it, which knows the first one."""
        if self.taken_off == self.documented:
            return path
        return self.documented + path[len(self.taken_off) :] or "/"


UNCHANGED = PrefixMapping()
