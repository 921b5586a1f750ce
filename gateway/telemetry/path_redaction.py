"""Redacts request paths for the access log and for spans. A route's `redact` names placeholders; the matching segments
of a path are replaced with the placeholders themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote

from gateway.context import Exchange
from gateway.route_policy import RoutePolicy
from gateway.url_redaction import redact_url

PLACEHOLDER = re.compile(r"\{\w+\}")
SEPARATORS = re.compile(r"[/\\#]")
PARAMETERS = re.compile(";.*")
ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")
# The placeholder that stands for the whole part that /** matches.
REST = "{path}"


@dataclass(frozen=True)
class RedactedRoute:
    """Redacts paths by the pattern of one route with `redact`."""

    policy: RoutePolicy

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """The segments of the pattern. For `/ws/{kind}/**`: "", "ws", "{kind}" and "{path}"."""
        return tuple(f"{self.policy.path.removesuffix('/**')}/{REST}".split("/"))

    @cached_property
    def redacted_indexes(self) -> tuple[int, ...]:
        names = {f"{{{name}}}" for name in self.policy.redact}
        return tuple(index for index, segment in enumerate(self.segments) if segment in names)

    def redact_matched(self, path: str, segment_count: int) -> str:
        """Redacts a path that matched this route. `segment_count` is the number of segments of the client's path. The
        path of an upstream may have a longer or shorter prefix, so segments are counted from the end."""
        segments = path.split("/")
        shift = len(segments) - segment_count
        for index in self.redacted_indexes:
            if index + shift < len(segments):
                segments[index + shift] = self.segments[index]
                if self.segments[index] == REST:
                    del segments[index + shift + 1 :]
        return "/".join(segments)

    def redact_similar(self, path: str) -> str | None:
        """Redacts a path that did not match this route but begins like its paths, as it may contain the same secrets.
        The path is cut off from the first segment to redact. Returns None if the path begins differently."""
        first = self.redacted_indexes[0]
        segments = lenient_segments(path)
        if len(segments) < first or not all(map(is_similar, self.segments[1:first], segments)):
            return None
        return "/".join(self.segments[: first + 1]) + ("/…" if len(segments) > first else "")


def lenient_segments(path: str) -> list[str]:
    """Returns the segments, in lower case, as a server reads them that decodes twice and resolves dots and
    backslashes."""
    segments: list[str] = []
    for segment in SEPARATORS.split(unquote(unquote(path)).lower()):
        name = PARAMETERS.sub("", segment).strip(". ")
        if name:
            segments.append(name)
        elif segment == ".." and segments:
            segments.pop()
    return segments


def is_similar(pattern: str, segment: str) -> bool:
    return PLACEHOLDER.fullmatch(pattern) is not None or pattern.lower() == segment


class PathRedaction:
    """Redacts the paths of all routes. Paths of services whose routes have no `redact` stay unchanged."""

    def __init__(self, policies: Iterable[RoutePolicy]) -> None:
        self._routes = {policy.name: RedactedRoute(policy) for policy in policies if policy.redact}
        self._services = frozenset(route.policy.service for route in self._routes.values())

    def path_of(self, exchange: Exchange) -> str:
        """Returns the redacted path of the client's request."""
        path = exchange.raw_target.partition("?")[0]
        origin = ""
        if not path.startswith("/"):
            # A target in absolute form may contain a password.
            origin, path = split_origin(redact_url(path))
        return origin + self._redacted(exchange, path)

    def upstream_url(self, exchange: Exchange, url: str) -> str:
        """Returns the redacted URL of an attempt at an upstream."""
        if not self._routes:
            return url
        origin, path = split_origin(url)
        if (route := self._matched_route(exchange)) is not None:
            return origin + route.redact_matched(path, segment_count(exchange))
        # Decided by the client's path: the upstream's path may lack the prefix, and then does not show which route it
        # resembles.
        raw_path = exchange.target.raw_path if exchange.target is not None else path
        return url if self._redacted(exchange, raw_path) == raw_path else f"{origin}/…"

    def _matched_route(self, exchange: Exchange) -> RedactedRoute | None:
        if exchange.policy is None or exchange.target is None:
            return None
        return self._routes.get(exchange.policy.name)

    def _redacted(self, exchange: Exchange, path: str) -> str:
        if not self._routes:
            return path
        if (route := self._matched_route(exchange)) is not None:
            return route.redact_matched(path, segment_count(exchange))
        policy = exchange.policy
        if policy is not None and policy.service not in self._services:
            return path
        # No route with `redact` matched: the request has another method, or was refused before routes were matched.
        found = (route.redact_similar(path) for route in self._routes.values())
        return next((shown for shown in found if shown is not None), path)


def segment_count(exchange: Exchange) -> int:
    """The number of segments of the client's path."""
    return exchange.target.raw_path.count("/") + 1 if exchange.target is not None else 0


def split_origin(url: str) -> tuple[str, str]:
    """Splits a URL into two parts: scheme with authority, and path."""
    found = ORIGIN.match(url)
    end = found.end() if found is not None else 0
    return url[:end], url[end:]
