"""The access log: one line per request, written when its response has closed, as JSON or, on a terminal, as text.

A line never contains a token or a header's value, and the query only with `log.query`. Text that a client chooses is
escaped, so that a client can neither forge a line nor send control codes to a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Literal

from gateway.config import LogSettings
from gateway.context import Exchange
from gateway.stages.rate_limit_headers import violated_policies
from gateway.telemetry.log_writer import LineWriter, Output
from gateway.telemetry.path_redaction import PathRedaction
from gateway.telemetry.request_records import RequestRecord
from gateway.timestamps import iso_milliseconds, to_microseconds

# The limit for the escaped form of each value that a client chooses: a line must fit into one atomic write to a pipe.
MAX_VALUE_BYTES = 512
# JSON escapes a character with at most 12 bytes, so a text of this length never exceeds the limit.
SHORT_LENGTH = MAX_VALUE_BYTES // 12
TERMINAL_COLORS = {2: "32", 3: "36", 4: "33", 5: "31"}
encode = json.JSONEncoder(separators=(", ", ": ")).encode


class AccessLog:
    """Writes a line for each request. Calls `count_lost` with the number of lines that could not be written. `chance`
    returns random numbers from 0 to 1."""

    def __init__(
        self,
        settings: LogSettings,
        count_lost: Callable[[int], None],
        chance: Callable[[], float],
        redaction: PathRedaction,
    ) -> None:
        output = Output(settings.file)
        is_text = settings.format == "text" or (settings.format == "auto" and output.is_terminal)
        self._settings = settings
        self._chance = chance
        self._redaction = redaction
        self._format = self._format_text if is_text else self._format_json
        self._writer = LineWriter(output, count_lost)
        self.start = self._writer.start
        self.reopen = self._writer.reopen
        self.flush = self._writer.flush

    def write_lines(self, records: Sequence[RequestRecord]) -> None:
        self._writer.write([self._format(record) for record in records if self._is_logged(record)])

    def _is_logged(self, record: RequestRecord) -> bool:
        share = self._settings.sample_successes
        is_success = record.status < 400 and not record.exchange.error_code
        return share >= 1 or not is_success or self._chance() < share

    def _format_json(self, record: RequestRecord) -> bytes:
        return encode(fields_of(record, self._settings, self._redaction)).encode() + b"\n"

    def _format_text(self, record: RequestRecord) -> bytes:
        fields = fields_of(record, self._settings, self._redaction)
        status = f"\x1b[{TERMINAL_COLORS.get(record.status // 100, '0')}m{record.status}\x1b[0m"
        details = [f"{name}={fields[name]}" for name in ("service", "principal", "error", "cause") if fields[name]]
        words = [fields["method"], fields["path"], f"{fields['seconds'] * 1000:.1f} ms", *details]
        return f"{fields['time'][11:19]} {status} {' '.join(map(escaped, words))}\n".encode()


def fields_of(record: RequestRecord, settings: LogSettings, redaction: PathRedaction) -> dict[str, Any]:
    """Returns the JSON object of a line; docs/operations.md lists its keys."""
    exchange, policy = record.exchange, record.exchange.policy
    query = exchange.raw_target.partition("?")[2]
    return {
        "time": iso_milliseconds(record.ended_at),
        "request_id": exchange.request_id,
        "trace_id": exchange.trace_id,
        "client": exchange.client.address,
        "method": clipped(exchange.method),
        "path": clipped(redaction.path_of(exchange)),
        "query": (clipped(query) if settings.query else "redacted") if query else None,
        "template": policy.path if policy else None,
        "service": policy.service if policy else None,
        "route": policy.name if policy else None,
        "principal": principal_of(exchange, settings.principal),
        "status": record.status,
        "over_quota": violated_policies(exchange.limits) or None,
        "undocumented": exchange.is_undocumented or None,
        "error": exchange.error_code or None,
        "cause": clipped(exchange.error_cause) or None,
        "attempts": [
            {"target": one.target.url, "outcome": one.outcome, "seconds": to_microseconds(one.ended - one.started)}
            for one in exchange.attempts
        ]
        or None,
        "received_bytes": getattr(exchange.environ["wsgi.input"], "received", 0),
        "sent_bytes": record.sent_bytes,
        "seconds": to_microseconds(record.seconds),
        "gateway_seconds": to_microseconds(exchange.own_seconds),
        "redis_seconds": to_microseconds(exchange.limits.seconds),
        "upstream_seconds": None if exchange.upstream_seconds is None else to_microseconds(exchange.upstream_seconds),
    }


def principal_of(exchange: Exchange, form: Literal["subject", "hash", "none"]) -> str | None:
    """Returns the token's subject, or a hash that is equal for equal subjects and does not reveal them."""
    if exchange.principal is None or form == "none":
        return None
    subject = exchange.principal.subject
    if form == "subject":
        return clipped(subject)
    return blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def clipped(text: str) -> str:
    """Returns the text; if its escaped form has more than MAX_VALUE_BYTES, the text is cut off and ends with "…"."""
    if len(text) <= SHORT_LENGTH or len(escaped(text)) <= MAX_VALUE_BYTES:
        return text
    while (length := len(escaped(text))) > MAX_VALUE_BYTES:
        text = text[: len(text) * MAX_VALUE_BYTES // length]
    return text + "…"


def escaped(text: str) -> str:
    return encode(text)[1:-1]
