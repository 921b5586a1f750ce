"""Where at the gateway clients call what a service documents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from gateway.openapi.inputs import ServiceDocument
from gateway.openapi.structure import METHODS

MAX_BASES = 10  # each path is tried with each of them
MAX_CHARACTERS = 2048  # of a path template: no client calls a longer one, and patterns take their time with it
VARIABLE = re.compile(r"\{([^{}]*)\}")


class PathMapping:
    """Maps a service's path templates to the gateway's.

    A service's `servers` (OpenAPI 3.1.1 4.8.5) may put a base path before its paths, as FastAPI's root_path does; the
    hosts in them say nothing here. A path that begins with the base already is not given it twice.

    Prefix kept: the gateway's path is the service's whole one, base and path. Where that is not below the service's
    prefix but the bare path is, the base belongs to a place that the gateway does not show, and the bare path counts.
    Prefix stripped: the service sees what is behind the prefix. A base that ends with the prefix is the way that
    clients come from outside, and is dropped; another one, if its URL is relative, is a part of what the service sees.
    One in an absolute URL tells of some other front, and is dropped.

    Prefix replaced: what is below the service's own prefix is below the gateway's; all else as where it is kept.

    The `servers` of a path or an operation stand in place of the document's; where the path has no place by them, the
    document's count after all.
    """

    def __init__(self, part: ServiceDocument) -> None:
        self._prefix = part.prefix.rstrip("/")
        self._strips = part.strip_prefix and self._prefix != ""
        replaced = part.target_prefix
        self._inner = [prefix.rstrip("/") for prefix in ([replaced] if replaced else (part.prefix, *part.prefixes))]
        self._is_replaced = replaced is not None
        self._bases = [""]
        self._bases = self._usable(base_paths((part.document or {}).get("servers")))

    def place(self, template: str) -> str | None:
        """The template as clients call it, or None where the gateway has no way to it."""
        return self._place(template, self._bases)

    def methods_by_path(self, template: str, item: Mapping[str, Any]) -> dict[str, list[str]]:
        """The methods of a Path Item Object, by the paths at which clients call them; without those to which the
        gateway has no way."""
        found: dict[str, list[str]] = {}
        usual = self.place(template)
        for method in METHODS:
            operation = item.get(method)
            if isinstance(operation, dict):
                servers = operation.get("servers") or item.get("servers")
                # A path item may be referred to very often, so no more of it is looked at than counts.
                bases = base_paths(servers[:MAX_BASES]) if isinstance(servers, list) else []
                path = (self._place(template, self._usable(bases)) if bases else None) or usual
                if path is not None:
                    found.setdefault(path, []).append(method)
        return found

    def _usable(self, bases: Sequence[tuple[str, bool]]) -> list[str]:
        if self._strips:
            base = next((base for base, is_relative in bases if is_relative), None)
            if base is None:
                return self._bases
            return [base if base and not base.endswith(self._prefix) else ""]
        return list(dict.fromkeys(base for base, _ in bases))[:MAX_BASES]

    def _place(self, template: str, bases: Sequence[str]) -> str | None:
        if not template.startswith("/") or template.startswith("//") or len(template) > MAX_CHARACTERS:
            return None
        if self._strips:
            seen = with_base(bases[0], template)
            # The prefix alone arrives as "/".
            return self._prefix if seen == "/" else self._prefix + seen
        for candidate in [*(with_base(base, template) for base in bases), template]:
            for inner in self._inner:
                if is_below(candidate, inner):
                    return (self._prefix + candidate[len(inner) :] or "/") if self._is_replaced else candidate
        return None


def with_base(base: str, template: str) -> str:
    return template if not base or is_below(template, base) else base + template


def is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def base_paths(servers: Any) -> list[tuple[str, bool]]:
    """Each server's path without a final slash, and whether its URL is relative; variables by their defaults."""
    found = []
    for server in servers if isinstance(servers, list) else []:
        if not isinstance(server, dict) or not isinstance(server.get("url"), str):
            continue
        variables = server.get("variables")
        url = filled(server["url"], variables if isinstance(variables, dict) else {})
        try:
            parts = urlsplit(url)
        except ValueError:
            continue
        path = parts.path.rstrip("/")
        # A variable without a default, a relative path such as "v1" or "..": nothing to rely on.
        if "{" in path or (path and not path.startswith("/")) or "//" in path or "/." in path:
            continue
        found.append((path, not parts.scheme and not parts.netloc))
    return found


def mean_the_gateway(servers: Any) -> bool:
    """Whether these are nothing but paths at the host of the document, which is the gateway's then."""
    return not servers or (
        isinstance(servers, list)
        and len(servers) <= MAX_BASES
        and len(base_paths(servers)) == len(servers)
        and all(is_relative for _, is_relative in base_paths(servers))
    )


def filled(url: str, variables: Mapping[str, Any]) -> str:
    def default_of(match: re.Match[str]) -> str:
        variable = variables.get(match[1])
        default = variable.get("default") if isinstance(variable, dict) else None
        return default if isinstance(default, str) else match[0]

    return VARIABLE.sub(default_of, url)
