"""One line per request, written when its response has closed: JSON, or on a terminal a text to read.

Never a token, never a header's value, a query only where that was asked for. Whatever a client can choose is escaped,
so that nobody can forge a line or send codes to a terminal.
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

# Of each value that a client chooses, as it is written: a line has to fit into one write (`log_writer.PIPE_BYTES`).
MOST_BYTES = 512
# So many characters fit in whichever they are.
SHORT = MOST_BYTES // 12
COLOURS = {2: "32", 3: "36", 4: "33", 5: "31"}
encode = json.JSONEncoder(separators=(", ", ": ")).encode


class AccessLog:
    """`chance` gives numbers from 0 to 1."""

    def __init__(
        self,
        settings: LogSettings,
        lost: Callable[[int], None],
        chance: Callable[[], float],
        redaction: PathRedaction,
    ) -> None:
        output = Output(settings.file)
        is_text = settings.format == "text" or (settings.format == "auto" and output.is_terminal)
        self._settings = settings
        self._chance = chance
        self._redaction = redaction
        self._line = self._text if is_text else self._json
        self._writer = LineWriter(output, lost)
        self.start = self._writer.start
        self.reopen = self._writer.reopen
        self.finish = self._writer.finish

    def read(self, notes: Sequence[RequestRecord]) -> None:
        """Writes the lines of finished requests."""
        self._writer.write([self._line(note) for note in notes if self._is_told(note)])

    def _is_told(self, note: RequestRecord) -> bool:
        share = self._settings.sample_successes
        is_success = note.status < 400 and not note.exchange.error_code
        return share >= 1 or not is_success or self._chance() < share

    def _json(self, note: RequestRecord) -> bytes:
        return encode(facts(note, self._settings, self._redaction)).encode() + b"\n"

    def _text(self, note: RequestRecord) -> bytes:
        told = facts(note, self._settings, self._redaction)
        colour = COLOURS.get(note.status // 100, "0")
        words = [
            told["time"][11:19],
            f"\x1b[{colour}m{note.status}\x1b[0m",
            told["method"],
            told["path"],
            f"{told['seconds'] * 1000:.1f} ms",
            *(f"{name}={told[name]}" for name in ("service", "principal", "error", "cause") if told[name]),
        ]
        return (" ".join(escaped(word) if index != 1 else word for index, word in enumerate(words)) + "\n").encode()


def facts(note: RequestRecord, settings: LogSettings, redaction: PathRedaction) -> dict[str, Any]:
    """What is told of a request, by the keys of the line."""
    exchange, policy = note.exchange, note.exchange.policy
    query = exchange.raw_target.partition("?")[2]
    return {
        "time": iso_milliseconds(note.now),
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
        "status": note.status,
        "over_quota": violated_policies(exchange.limits) or None,
        "undocumented": exchange.is_undocumented or None,
        "error": exchange.error_code or None,
        "cause": clipped(exchange.error_cause) or None,
        "attempts": [
            {"target": one.target, "outcome": one.outcome, "seconds": one.seconds} for one in exchange.attempts
        ]
        or None,
        "received_bytes": getattr(exchange.environ["wsgi.input"], "received", 0),
        "sent_bytes": note.sent_bytes,
        "seconds": to_microseconds(note.seconds),
        "gateway_seconds": to_microseconds(exchange.own_seconds),
        "redis_seconds": to_microseconds(exchange.limits.seconds),
        "upstream_seconds": None if exchange.upstream_seconds is None else to_microseconds(exchange.upstream_seconds),
    }


def principal_of(exchange: Exchange, told: Literal["subject", "hash", "none"]) -> str | None:
    """Who called, as far as it is to be told; the hash is the same for the same subject, and no way back to it."""
    if exchange.principal is None or told == "none":
        return None
    subject = exchange.principal.subject
    if told == "subject":
        return clipped(subject)
    return blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def clipped(text: str) -> str:
    """The text, or its beginning where it would be too long when it is written: a character may take 12 bytes then."""
    if len(text) <= SHORT or len(escaped(text)) <= MOST_BYTES:
        return text
    while (length := len(escaped(text))) > MOST_BYTES:
        text = text[: len(text) * MOST_BYTES // length]
    return text + "…"


def escaped(text: str) -> str:
    return encode(text)[1:-1]
