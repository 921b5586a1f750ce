"""Paths as operators may see them: without what a route's `redact` names, and without a user and password."""

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
REST = "{path}"


@dataclass(frozen=True)
class RedactedRoute:
    """A route's path with the places in it that are not to be seen."""

    policy: RoutePolicy

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """Of `/ws/{kind}/{token}`: "", "ws", "{kind}" and "{token}"; what /** stands for is "{path}"."""
        return tuple(f"{self.policy.path.removesuffix('/**')}/{REST}".split("/"))

    @cached_property
    def hidden(self) -> tuple[int, ...]:
        names = {f"{{{name}}}" for name in self.policy.redact}
        return tuple(at for at, segment in enumerate(self.segments) if segment in names)

    def of_own(self, path: str, number: int) -> str:
        """The path with placeholders for what is hidden. It ends as a path of this route does, which has this number
        of segments: a service may get it without its prefix, and behind another one."""
        segments = path.split("/")
        shift = len(segments) - number
        for at in self.hidden:
            if at + shift < len(segments):
                segments[at + shift] = self.segments[at]
                if self.segments[at] == REST:
                    del segments[at + shift + 1 :]
        return "/".join(segments)

    def of_another(self, path: str) -> str | None:
        """A path that is not of this route, but so much like one of its paths that it may hold the same secrets: all
        that could be one is left out. None for other paths."""
        first = self.hidden[0]
        read = segments_as_read(path)
        if len(read) < first or not all(map(is_like, self.segments[1:first], read)):
            return None
        return "/".join(self.segments[: first + 1]) + ("/…" if len(read) > first else "")


def segments_as_read(path: str) -> list[str]:
    """The segments that a lenient server could read, in small letters."""
    segments: list[str] = []
    for segment in SEPARATORS.split(unquote(unquote(path)).lower()):
        name = PARAMETERS.sub("", segment).strip(". ")
        if name:
            segments.append(name)
        elif segment == ".." and segments:
            segments.pop()
    return segments


def is_like(expected: str, read: str) -> bool:
    return PLACEHOLDER.fullmatch(expected) is not None or expected.lower() == read


class PathRedaction:
    """What log lines and spans show of requests' paths. Without any `redact`, and for services without one, that is
    the path as it came."""

    def __init__(self, policies: Iterable[RoutePolicy]) -> None:
        self._routes = {policy.name: RedactedRoute(policy) for policy in policies if policy.redact}
        self._services = frozenset(route.policy.service for route in self._routes.values())

    def path_of(self, exchange: Exchange) -> str:
        """The path of the client's request."""
        path = exchange.raw_target.partition("?")[0]
        origin = ""
        if not path.startswith("/"):
            # In absolute form there may be a password in it.
            origin, path = split_origin(redact_url(path))
        return origin + self._shown(exchange, path)

    def upstream_url(self, exchange: Exchange, url: str) -> str:
        """The URL that a service was asked for."""
        if not self._routes:
            return url
        origin, path = split_origin(url)
        if (own := self._own_route(exchange)) is not None:
            return origin + own.of_own(path, segments_of(exchange))
        # Behind a stripped prefix, nobody can see of what route it is.
        raw_path = exchange.target.raw_path if exchange.target is not None else path
        return url if self._shown(exchange, raw_path) == raw_path else f"{origin}/…"

    def _own_route(self, exchange: Exchange) -> RedactedRoute | None:
        if exchange.policy is None or exchange.target is None:
            return None
        return self._routes.get(exchange.policy.name)

    def _shown(self, exchange: Exchange, path: str) -> str:
        if not self._routes:
            return path
        if (own := self._own_route(exchange)) is not None:
            return own.of_own(path, segments_of(exchange))
        policy = exchange.policy
        if policy is not None and policy.service not in self._services:
            return path
        # Another method, a path that was refused, or a request that was refused before its path was looked at.
        found = (route.of_another(path) for route in self._routes.values())
        return next((shown for shown in found if shown is not None), path)


def segments_of(exchange: Exchange) -> int:
    """How many segments the client's path has."""
    return exchange.target.raw_path.count("/") + 1 if exchange.target is not None else 0


def split_origin(url: str) -> tuple[str, str]:
    """The scheme and authority of a URL, and its path."""
    found = ORIGIN.match(url)
    end = found.end() if found is not None else 0
    return url[:end], url[end:]
