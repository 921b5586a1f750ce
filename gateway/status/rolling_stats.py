"""What one worker saw in the last 15 minutes: per service, in slots of ten seconds."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable

from gateway.status.latency import BOUNDS, BUCKETS

SLOT_SECONDS = 10
# Finished ones that are told; the one that still runs comes on top.
SLOTS = 90
RING = SLOTS + 1
QUOTA_CODE = "quota_exceeded"
# The head of the answer had gone out before the service failed, so its status does not say so.
ABORTED_CODE = "upstream_aborted"


class Slot:
    """`number` is the moment of its begin (seconds since 1970) divided by SLOT_SECONDS, so that the slots of all
    workers are the same. `errors` are answers of 5xx and broken ones, the gateway's and the service's; `codes` counts
    the gateway's own error codes."""

    __slots__ = ("buckets", "codes", "errors", "number", "refusals", "requests")

    def __init__(self) -> None:
        self.begin(-1)

    def begin(self, number: int) -> None:
        self.number = number
        self.requests = self.errors = self.refusals = 0
        self.codes: dict[str, int] = {}
        self.buckets = [0] * BUCKETS

    def to_json(self) -> str:
        """As `reports.Slot` reads it; of the buckets those that have something in them."""
        filled = {index: count for index, count in enumerate(self.buckets) if count}
        parts = [self.number, self.requests, self.errors, self.refusals, self.codes, filled]
        return json.dumps(parts, separators=(",", ":"))


class RollingStats:
    """`clock` is seconds since 1970. Not locked: under threads a request in a million may be missed, which does no harm
    to a figure; what costs nothing is worth it."""

    def __init__(self, services: Iterable[str], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rings = {name: [Slot() for _ in range(RING)] for name in services}
        # Slots don't change once they are finished, so each is written only once.
        self._written: dict[str, deque[tuple[int, str]]] = {name: deque(maxlen=SLOTS) for name in self._rings}

    def count(self, service: str, status: int, error_code: str, seconds: float | None) -> None:
        """Counts a finished request; `seconds` is None for a stream, whose length tells nothing. Called for each
        request, so it costs a microsecond and no more."""
        number = int(self._clock() / SLOT_SECONDS)
        slot = self._rings[service][number % RING]
        if slot.number != number:
            slot.begin(number)
        slot.requests += 1
        if seconds is not None:
            slot.buckets[bisect_left(BOUNDS, seconds)] += 1
        if error_code:
            slot.codes[error_code] = slot.codes.get(error_code, 0) + 1
            if error_code == QUOTA_CODE:
                slot.refusals += 1
        if status >= 500 or error_code == ABORTED_CODE:
            slot.errors += 1

    def running(self) -> dict[str, str]:
        """The slot of this moment of each service that has had a request in it, as JSON."""
        number = int(self._clock() / SLOT_SECONDS)
        slots = {name: ring[number % RING] for name, ring in self._rings.items()}
        return {name: slot.to_json() for name, slot in slots.items() if slot.number == number}

    def finished(self) -> str:
        """The finished slots of the last 15 minutes, as the JSON that `reports.History` reads. Called by one thread at
        a time."""
        now = int(self._clock() / SLOT_SECONDS)
        lists = []
        for name, ring in self._rings.items():
            written = self._written[name]
            # A clock that was set back leaves slots of a time to come.
            while written and written[-1][0] >= now:
                written.pop()
            while written and written[0][0] < now - SLOTS:
                written.popleft()
            first = max(written[-1][0] + 1 if written else 0, now - SLOTS)
            for number in range(first, now):
                slot = ring[number % RING]
                if slot.number == number:
                    written.append((number, slot.to_json()))
            if written:
                lists.append(f"{json.dumps(name)}:[{','.join(text for _, text in written)}]")
        return f"{{{','.join(lists)}}}"
