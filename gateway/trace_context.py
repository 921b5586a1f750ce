"""W3C Trace Context (Level 2): the gateway continues the trace of a request's `traceparent` and `tracestate`, or starts
a new one.

OpenTelemetry's propagator does less: it samples nothing, and forwards unknown flags and states of more than 512 bytes.
It would also be a requirement that takes 0.1 s to import.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

# The client's headers of these names are never forwarded; `Trace.headers` replaces them.
TRACE_HEADERS = frozenset(["traceparent", "tracestate"])

# A value with a comma was joined from two header fields. Which trace is meant is unknown, so a new one starts
# (3.2.2.5).
TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^,]*)?")
MEMBER = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
SAMPLED, RANDOM = 0x01, 0x02
KNOWN_FLAGS = SAMPLED | RANDOM
MAX_MEMBERS, MAX_STATE_BYTES, LONG_MEMBER_BYTES = 32, 512, 128
RATIO_BITS = 64

RandomBits = Callable[[int], int]


@dataclass(slots=True)
class Trace:
    """The trace of one request. `parent_id` is the client's span, empty if the trace starts here. `span_id` is sent to
    the upstream as its parent. If `is_recorded`, spans will be exported."""

    trace_id: str
    parent_id: str
    span_id: str
    flags: int
    state: str
    is_recorded: bool
    random_bits: RandomBits

    def start_attempt(self) -> str:
        """Returns the span id of the attempt that is about to be made. If spans are recorded, each attempt gets a new
        id. Otherwise all attempts have the same id: a new one would name a span that is never exported as the
        upstream's parent."""
        if self.is_recorded:
            self.span_id = new_id(self.random_bits, 64)
        return self.span_id

    def headers(self) -> list[tuple[str, str]]:
        """The headers for the upstream, in version 00."""
        headers = [("Traceparent", f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}")]
        if self.state:
            headers.append(("Tracestate", self.state))
        return headers


class Propagator:
    """Continues or starts the trace of each request. `sample_ratio` is the share of new traces that get the sampled
    flag; continued traces keep their flag. `is_exporting` says whether spans of sampled traces are recorded."""

    def __init__(self, sample_ratio: float, random_bits: RandomBits, *, is_exporting: bool) -> None:
        # OpenTelemetry's samplers compare the same bits of the trace id, so other services decide alike.
        self._sampled_below = round(sample_ratio * (1 << RATIO_BITS))
        self._random_bits = random_bits
        self._is_exporting = is_exporting

    def start_trace(self, traceparent: str | None, tracestate: str | None) -> Trace:
        """Continues or starts the trace of a request with these header values. Repeated header fields are joined by
        commas."""
        if traceparent is not None and (found := read_traceparent(traceparent)) is not None:
            trace_id, parent_id, flags = found
            state = read_tracestate(tracestate) if tracestate else ""
            return Trace(trace_id, parent_id, parent_id, flags, state, self._is_recorded(flags), self._random_bits)
        trace_id = new_id(self._random_bits, 128)
        is_sampled = int(trace_id[-RATIO_BITS // 4 :], 16) < self._sampled_below
        flags = RANDOM | (SAMPLED if is_sampled else 0)
        span_id = new_id(self._random_bits, 64)
        # The client's state is dropped: it belongs to the trace whose traceparent is invalid (3.3.1.6).
        return Trace(trace_id, "", span_id, flags, "", self._is_recorded(flags), self._random_bits)

    def _is_recorded(self, flags: int) -> bool:
        return self._is_exporting and bool(flags & SAMPLED)


def read_traceparent(value: str) -> tuple[str, str, int] | None:
    """Returns trace id, parent id and known flags; None if the value is invalid and a new trace must start (4.3). Of a
    value of a later version, only the parts that version 00 defines are read."""
    match = TRACEPARENT.fullmatch(value.strip(" \t"))
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None) or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return trace_id, parent_id, int(flags, 16) & KNOWN_FLAGS


def read_tracestate(value: str) -> str:
    """Returns the state unchanged; empty if it is malformed or has too many members (3.3.1). If the state is too long,
    its long members are removed first, then its last members (3.3.1.5)."""
    members = [stripped for member in value.split(",") if (stripped := member.strip(" \t"))]
    if len(members) > MAX_MEMBERS or not all(MEMBER.fullmatch(member) for member in members):
        return ""
    if len(value) <= MAX_STATE_BYTES:
        return value.strip(" \t") if members else ""
    for index in range(len(members) - 1, -1, -1):
        if len(",".join(members)) > MAX_STATE_BYTES and len(members[index]) > LONG_MEMBER_BYTES:
            del members[index]
    while len(",".join(members)) > MAX_STATE_BYTES:
        members.pop()
    return ",".join(members)


def new_id(random_bits: RandomBits, bits: int) -> str:
    """A random id as lower-case hexadecimal digits that are not all zero (3.2.2.3)."""
    return f"{random_bits(bits) or 1:0{bits // 4}x}"
