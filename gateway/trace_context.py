"""W3C Trace Context (Level 2): `traceparent` and `tracestate`, kept as they came or started here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

# What a client sends under these names goes on only as it was understood here.
TRACE_FIELDS = frozenset(["traceparent", "tracestate"])

# A comma means two fields in one: which of them is meant can't be known (3.2.2.5).
TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^,]*)?")
MEMBER = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
SAMPLED, RANDOM = 0x01, 0x02
KNOWN_FLAGS = SAMPLED | RANDOM
MAX_MEMBERS, MAX_STATE_BYTES, LONG_MEMBER_BYTES = 32, 512, 128
RATIO_BITS = 64

RandomBits = Callable[[int], int]


@dataclass(slots=True)
class UpstreamCall:
    """One attempt to get an answer of a target, for a span. `outcome` as in `Attempt`; `url` is without query. Times
    are monotonic seconds; it ended when the answer's head was there, or wasn't to come."""

    span_id: str
    url: str
    host: str
    port: int
    outcome: str
    status: int | None
    started: float
    ended: float


@dataclass(slots=True)
class Trace:
    """The trace that a request is part of. `parent_id` is the span that asked, empty where the trace starts here;
    `sent_id` is the one that the service is told as its parent. With `is_recorded` there will be spans of it, and what
    they are made of is to be put into `calls`."""

    trace_id: str
    parent_id: str
    sent_id: str
    flags: int
    state: str
    is_recorded: bool
    random_bits: RandomBits
    calls: list[UpstreamCall] = field(default_factory=list)

    def begin_call(self) -> None:
        """What is sent next is asked by a span of its own, where there is to be one: else the service's would hang from
        a span that nobody ever sees."""
        if self.is_recorded:
            self.sent_id = new_id(self.random_bits, 64)

    def fields(self) -> list[tuple[str, str]]:
        """What the service gets, in version 00."""
        sent = [("Traceparent", f"00-{self.trace_id}-{self.sent_id}-{self.flags:02x}")]
        if self.state:
            sent.append(("Tracestate", self.state))
        return sent


class Propagation:
    """Finds out which trace a request is part of. `sample_ratio` is the share of those started here that have the
    sampled flag; others keep theirs. `is_exporting`: whether spans are made of sampled ones."""

    def __init__(self, sample_ratio: float, random_bits: RandomBits, *, is_exporting: bool) -> None:
        # By the id's own last bits, as OpenTelemetry's samplers do: whoever decides by them decides the same.
        self._sampled_below = round(sample_ratio * (1 << RATIO_BITS))
        self._random_bits = random_bits
        self._is_exporting = is_exporting

    def begin(self, traceparent: str | None, tracestate: str | None) -> Trace:
        """The trace of a request with these fields; several of one name are joined by commas."""
        if traceparent is not None and (found := read_traceparent(traceparent)) is not None:
            trace_id, parent_id, flags = found
            state = read_tracestate(tracestate) if tracestate else ""
            return Trace(trace_id, parent_id, parent_id, flags, state, self._is_recorded(flags), self._random_bits)
        trace_id = new_id(self._random_bits, 128)
        is_sampled = int(trace_id[-RATIO_BITS // 4 :], 16) < self._sampled_below
        flags = RANDOM | (SAMPLED if is_sampled else 0)
        # The state belongs to the trace that could not be read (3.3.1.6), and goes with it.
        sent_id = new_id(self._random_bits, 64)
        return Trace(trace_id, "", sent_id, flags, "", self._is_recorded(flags), self._random_bits)

    def _is_recorded(self, flags: int) -> bool:
        return self._is_exporting and bool(flags & SAMPLED)


def read_traceparent(value: str) -> tuple[str, str, int] | None:
    """Trace id, parent id and known flags; None where a new trace is to be started (4.3). Of versions after 00, what
    00 knows."""
    match = TRACEPARENT.fullmatch(value.strip(" \t"))
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None) or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return trace_id, parent_id, int(flags, 16) & KNOWN_FLAGS


def read_tracestate(value: str) -> str:
    """The state as it came; empty where it is malformed or has more members than there may be (3.3.1). Of one that is
    too long, first the long members are left out, then the last ones (3.3.1.5)."""
    members = [stripped for member in value.split(",") if (stripped := member.strip(" \t"))]
    if len(members) > MAX_MEMBERS or not all(MEMBER.fullmatch(member) for member in members):
        return ""
    if len(value) <= MAX_STATE_BYTES:
        return value.strip(" \t") if members else ""
    for index in range(len(members) - 1, -1, -1):
        if length_of(members) > MAX_STATE_BYTES and len(members[index]) > LONG_MEMBER_BYTES:
            del members[index]
    while length_of(members) > MAX_STATE_BYTES:
        members.pop()
    return ",".join(members)


def length_of(members: list[str]) -> int:
    return sum(map(len, members)) + len(members) - 1


def new_id(random_bits: RandomBits, bits: int) -> str:
    """An id of lower-case hexadecimal digits that are not all zero (3.2.2.3)."""
    return f"{random_bits(bits) or 1:0{bits // 4}x}"
