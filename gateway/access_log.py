"""One JSON line per request, written when its response closes. Never a token, never a header's value, never a query."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TextIO

from gateway.context import Exchange
from gateway.moments import iso
from gateway.quota_fields import violated_policies


class AccessLog:
    """Writes to `stream`, a line at a time, so that lines of several workers don't mix."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, exchange: Exchange, status: int, now: float, monotonic_now: float) -> None:
        """`now` in seconds since 1970. JSON escapes what could end a line, so nobody can forge one."""
        line = {
            "time": iso(now, "milliseconds"),
            "request_id": exchange.request_id,
            "trace_id": exchange.trace_id,
            "client": exchange.client_address,
            "method": exchange.method,
            "path": exchange.raw_target.partition("?")[0],
            "service": exchange.policy.service if exchange.policy else None,
            "route": exchange.policy.name if exchange.policy else None,
            "status": status,
            "over_quota": violated_policies(exchange.quota) or None,
            "undocumented": exchange.is_undocumented or None,
            "error": exchange.error_code or None,
            "cause": exchange.error_cause or None,
            "seconds": round(monotonic_now - exchange.started, 6),
            "attempts": [asdict(one) for one in exchange.attempts] if len(exchange.attempts) > 1 else None,
            "upstream_seconds": None if exchange.upstream_seconds is None else round(exchange.upstream_seconds, 6),
        }
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
