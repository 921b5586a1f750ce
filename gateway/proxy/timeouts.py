"""How long each part of an exchange with a service may take."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from gateway.config import RouteSettings, ServiceSettings


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`connect_seconds` for a connection, TLS included; `head_seconds` for the whole head of the answer, from when the
    request was sent; `read_seconds` between bytes after that, and for a piece of the request to be taken. `deadline` is
    when all of it has to be over, in monotonic seconds."""

    connect_seconds: float
    head_seconds: float
    read_seconds: float
    deadline: float = math.inf

    def within(self, seconds: float) -> Timeouts:
        """These limits for an exchange that begins now and takes no longer than so many seconds in all."""
        return replace(self, connect_seconds=min(self.connect_seconds, seconds), deadline=time.monotonic() + seconds)

    @classmethod
    def of(cls, service: ServiceSettings, route: RouteSettings | None = None) -> Timeouts:
        """A service's, or those of one of its routes, which has its service's where it says nothing."""

        def limit(name: str) -> float | None:
            own: float | None = getattr(route, name, None)
            found: float | None = getattr(service, name) if own is None else own
            return found

        read_seconds = limit("read_timeout_seconds") or 0.0
        return cls(
            connect_seconds=limit("connect_timeout_seconds") or 0.0,
            head_seconds=limit("head_timeout_seconds") or read_seconds,
            read_seconds=read_seconds,
        )
