"""The queue of finished requests: each record is consumed once, and none is lost at the end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from gateway.telemetry.request_records import RecordQueue, RequestRecord

COUNT = 1000


def test_drain_waits_for_the_batch_that_the_thread_consumes_and_each_record_is_consumed_once() -> None:
    seen: list[Any] = []
    begun, released = threading.Event(), threading.Event()

    def consume(records: Sequence[RequestRecord]) -> None:
        begun.set()
        released.wait(30)
        seen.extend(records)

    queue = RecordQueue([consume], lambda: None)
    for number in range(COUNT):
        queue.enqueue(number)  # type: ignore[arg-type]
    assert begun.wait(30)
    counts: list[int] = []

    def drain() -> None:
        queue.drain()
        counts.append(len(seen))

    drains = [threading.Thread(target=drain) for _ in range(2)]
    for one in drains:
        one.start()
    released.set()
    for one in drains:
        one.join()
    assert counts == [COUNT] * 2
    assert seen == list(range(COUNT))
