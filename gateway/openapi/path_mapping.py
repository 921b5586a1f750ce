"""Maps the paths in a service's document to the paths at which clients of the gateway call them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from gateway.openapi.inputs import ServiceDocument
from gateway.openapi.object_types import METHODS

MAX_BASES = 10  # each path is tried with each base path
MAX_CHARACTERS = 2048  # of a path template; longer ones are left out, because matching patterns takes time
VARIABLE = re.compile(r"\{([^{}]*)\}")


class PathMapping:
    """Maps a service's path templates to the gateway's.

    The `servers` of a document (OpenAPI 3.1.1 4.8.5) may put a base path before its paths, as FastAPI's root_path does.
    Their hosts make no difference. A path that already begins with the base path does not get it twice.

    - Prefix kept: the client's path is the base path followed by the path. If the result is not below the service's
      prefix but the path alone is, the base path belongs to a location that the gateway does not expose, and is
      dropped.
    - Prefix stripped: the client's path is the prefix followed by the path that the service sees. A base path that ends
      with the prefix describes what clients of a proxy use, and is dropped. So is a base path in an absolute URL. Any
      other base path is part of the path that the service sees.
    - Prefix replaced: the service's own prefix is replaced by the gateway's. Base paths are used as with a kept prefix.

    The `servers` of a path or an operation replace the document's. If the path can't be mapped with them, the
    document's are used."""

    def __init__(self, part: ServiceDocument) -> None:
        self._prefix = part.prefix.rstrip("/")
        self._strips = part.strip_prefix and self._prefix != ""
        replaced = part.target_prefix
        own_prefixes = [replaced] if replaced else (part.prefix, *part.prefixes)
        self._own_prefixes = [prefix.rstrip("/") for prefix in own_prefixes]
        self._is_replaced = replaced is not None
        self._bases = [""]
        self._bases = self._bases_to_try(base_paths((part.document or {}).get("servers")))

    def client_path(self, template: str) -> str | None:
        """The template as clients call it; None if the gateway does not expose it."""
        return self._client_path(template, self._bases)

    def methods_by_path(self, template: str, item: Mapping[str, Any]) -> dict[str, list[str]]:
        """The methods of a Path Item Object, by the path at which clients call them. Methods that the gateway does not
        expose are left out."""
        found: dict[str, list[str]] = {}
        default = self.client_path(template)
        for method in METHODS:
            operation = item.get(method)
            if isinstance(operation, dict):
                servers = operation.get("servers") or item.get("servers")
                # The list is cut before it is parsed, because very many paths may refer to the same long list.
                bases = base_paths(servers[:MAX_BASES]) if isinstance(servers, list) else []
                path = (self._client_path(template, self._bases_to_try(bases)) if bases else None) or default
                if path is not None:
                    found.setdefault(path, []).append(method)
        return found

    def _bases_to_try(self, bases: Sequence[tuple[str, bool]]) -> list[str]:
        """The base paths that are put before a path until the result is below the service's prefix. If the prefix is
        stripped, it is only one: that of the first relative URL, or without any, that of the document."""
        if self._strips:
            base = next((base for base, is_relative in bases if is_relative), None)
            if base is None:
                return self._bases
            return [base if base and not base.endswith(self._prefix) else ""]
        return list(dict.fromkeys(base for base, _ in bases))[:MAX_BASES]

    def _client_path(self, template: str, bases: Sequence[str]) -> str | None:
        if not template.startswith("/") or template.startswith("//") or len(template) > MAX_CHARACTERS:
            return None
        if self._strips:
            seen = with_base(bases[0], template)
            # The service sees a request for the prefix alone as "/".
            return self._prefix if seen == "/" else self._prefix + seen
        for candidate in [*(with_base(base, template) for base in bases), template]:
            for prefix in self._own_prefixes:
                if is_below(candidate, prefix):
                    return (self._prefix + candidate[len(prefix) :] or "/") if self._is_replaced else candidate
        return None


def with_base(base: str, template: str) -> str:
    return template if not base or is_below(template, base) else base + template


def is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def base_paths(servers: Any) -> list[tuple[str, bool]]:
    """The path of each server without a final slash, and whether its URL is relative. Variables are replaced
    by their defaults."""
    found = []
    for server in servers if isinstance(servers, list) else []:
        if not isinstance(server, dict) or not isinstance(server.get("url"), str):
            continue
        variables = server.get("variables")
        url = fill_variables(server["url"], variables if isinstance(variables, dict) else {})
        try:
            parts = urlsplit(url)
        except ValueError:
            continue
        path = parts.path.rstrip("/")
        # URLs that name no certain path are ignored: those with a variable without a default, and with a relative path
        # such as "v1" or "..".
        if "{" in path or (path and not path.startswith("/")) or "//" in path or "/." in path:
            continue
        found.append((path, not parts.scheme and not parts.netloc))
    return found


def are_on_gateway(servers: Any) -> bool:
    """Whether all servers are on the host that the document comes from: for clients, that is the gateway."""
    return not servers or (
        isinstance(servers, list)
        and len(servers) <= MAX_BASES
        and len(base_paths(servers)) == len(servers)
        and all(is_relative for _, is_relative in base_paths(servers))
    )


def fill_variables(url: str, variables: Mapping[str, Any]) -> str:
    def default_of(match: re.Match[str]) -> str:
        variable = variables.get(match[1])
        default = variable.get("default") if isinstance(variable, dict) else None
        return default if isinstance(default, str) else match[0]

    return VARIABLE.sub(default_of, url)
