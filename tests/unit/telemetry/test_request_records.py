"""Notes of finished requests: each is read once, and none is lost at the end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from gateway.telemetry.request_records import RequestRecord, RequestRecords

COUNT = 1000


def test_the_end_waits_for_what_is_being_read_and_each_note_is_read_once() -> None:
    seen: list[Any] = []
    begun, released = threading.Event(), threading.Event()

    def read(notes: Sequence[RequestRecord]) -> None:
        begun.set()
        released.wait(30)
        seen.extend(notes)

    notes = RequestRecords([read], lambda: None)
    for number in range(COUNT):
        notes.leave(number)  # type: ignore[arg-type]
    assert begun.wait(30)
    counts: list[int] = []

    def finish() -> None:
        notes.finish()
        counts.append(len(seen))

    ends = [threading.Thread(target=finish) for _ in range(2)]
    for end in ends:
        end.start()
    released.set()
    for end in ends:
        end.join()
    assert counts == [COUNT] * 2
    assert seen == list(range(COUNT))
