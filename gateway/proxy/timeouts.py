"""How long each part of a round trip to a service may take."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from gateway.config import RouteSettings, ServiceSettings


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`connect_seconds` is for opening a connection, TLS included. `head_seconds` is for the whole response head, from
    when the request has been sent. `read_seconds` is the longest pause between bytes of the response's body, and the
    longest time in which the service may accept no byte of the request. `deadline` is when the whole round trip must
    have ended, with the response's body, in monotonic seconds."""

    connect_seconds: float
    head_seconds: float
    read_seconds: float
    deadline: float = math.inf

    def within(self, seconds: float) -> Timeouts:
        """A copy of these timeouts for a round trip that begins now and must end within so many seconds."""
        return replace(self, connect_seconds=min(self.connect_seconds, seconds), deadline=time.monotonic() + seconds)

    @classmethod
    def of(cls, service: ServiceSettings, route: RouteSettings | None = None) -> Timeouts:
        """The timeouts of a service or of one of its routes. A route inherits what it does not set."""

        def setting(name: str) -> float | None:
            own: float | None = getattr(route, name, None)
            inherited: float | None = getattr(service, name)
            return inherited if own is None else own

        read_seconds = setting("read_timeout_seconds") or 0.0
        return cls(
            connect_seconds=setting("connect_timeout_seconds") or 0.0,
            head_seconds=setting("head_timeout_seconds") or read_seconds,
            read_seconds=read_seconds,
        )
