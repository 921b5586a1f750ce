"""Counts the requests that one worker served in the last 15 minutes: per service, in slots of ten seconds."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable

from gateway.status.latency import BOUNDS, BUCKETS

SLOT_SECONDS = 10
# The number of finished slots that are shown. A service also has a running slot.
SLOTS = 90
RING = SLOTS + 1
QUOTA_CODE = "quota_exceeded"
# The error code of a response that broke off. Its status is no error: the head had already been sent when the upstream
# failed.
ABORTED_CODE = "upstream_aborted"


class Slot:
    """The counts of ten seconds. `number` is the start of the slot in seconds since 1970, divided by SLOT_SECONDS, so
    it is the same in all workers. `errors` counts 5xx and aborted responses, of the gateway and of the service;
    `refusals` counts exceeded rate limits; `codes` counts the gateway's error codes."""

    __slots__ = ("buckets", "codes", "errors", "number", "refusals", "requests")

    def __init__(self) -> None:
        self.restart(-1)

    def restart(self, number: int) -> None:
        self.number = number
        self.requests = self.errors = self.refusals = 0
        self.codes: dict[str, int] = {}
        self.buckets = [0] * BUCKETS

    def to_json(self) -> str:
        """The JSON of a `report_schema.Slot`, without empty buckets."""
        filled = {index: count for index, count in enumerate(self.buckets) if count}
        parts = [self.number, self.requests, self.errors, self.refusals, self.codes, filled]
        return json.dumps(parts, separators=(",", ":"))


class RollingStats:
    """The slots of each service. `clock` returns seconds since 1970."""

    def __init__(self, services: Iterable[str], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rings = {name: [Slot() for _ in range(RING)] for name in services}
        # The JSON of finished slots: they do not change any more, so each is formatted only once.
        self._finished: dict[str, deque[tuple[int, str]]] = {name: deque(maxlen=SLOTS) for name in self._rings}

    def count(self, service: str, status: int, error_code: str, seconds: float | None) -> None:
        """Counts a finished request, in about a microsecond. `seconds` is None for a stream, whose duration says
        nothing about the service."""
        number = int(self._clock() / SLOT_SECONDS)
        slot = self._rings[service][number % RING]
        if slot.number != number:
            slot.restart(number)
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
        """Returns the JSON of the running slot of each service that has had requests in it."""
        number = int(self._clock() / SLOT_SECONDS)
        slots = {name: ring[number % RING] for name, ring in self._rings.items()}
        return {name: slot.to_json() for name, slot in slots.items() if slot.number == number}

    def history(self) -> str:
        """Returns the JSON of a `report_schema.History`: the finished slots of the last 15 minutes. Not thread-safe."""
        now = int(self._clock() / SLOT_SECONDS)
        lists = []
        for name, ring in self._rings.items():
            finished = self._finished[name]
            # If the clock was set back, some slots lie in the future.
            while finished and finished[-1][0] >= now:
                finished.pop()
            while finished and finished[0][0] < now - SLOTS:
                finished.popleft()
            first = max(finished[-1][0] + 1 if finished else 0, now - SLOTS)
            for number in range(first, now):
                slot = ring[number % RING]
                if slot.number == number:
                    finished.append((number, slot.to_json()))
            if finished:
                lists.append(f"{json.dumps(name)}:[{','.join(text for _, text in finished)}]")
        return f"{{{','.join(lists)}}}"
