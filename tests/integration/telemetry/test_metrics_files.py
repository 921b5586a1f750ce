"""What ended workers counted is put together while others read it."""

from __future__ import annotations

import json
import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics.files import CHANGES, forget_worker, packed, unchanged

# Readers see the master's changes by memory that they got when they were forked.
FORK = multiprocessing.get_context("fork")
WORKERS = 300


def key(name: str, sample: str = "", **labels: str) -> str:
    return json.dumps([name, sample or name, labels, "help"])


def write(folder: Path, pid: int) -> None:
    (folder / f"counter_{pid}.db").write_bytes(packed({key("seen", "seen_total", what="x"): 1.0}))
    buckets = {key("took", "took_bucket", le=bound): 1.0 for bound in ("0.5", "+Inf")}
    (folder / f"histogram_{pid}.db").write_bytes(packed(buckets | {key("took", "took_sum"): 0.25}))
    (folder / f"gauge_livesum_{pid}.db").write_bytes(packed({key("alive"): 1.0}))


def samples(folder: Path) -> dict[str, float]:
    collector: Any = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]
    families = text_string_to_metric_families(generate_latest(collector).decode())
    return {one.name + one.labels.get("le", ""): one.value for family in families for one in family.samples}


def read_on(folder: Path, begun: Event, ended: Event, told: Any) -> None:
    """Tells all different readings of what must never change."""
    seen, count = set(), 0
    while not ended.is_set():
        read = unchanged(lambda: samples(folder))
        seen.add((read["seen_total"], read["took_count"], read["took_bucket0.5"], read["took_sum"]))
        count += 1
        begun.set()
    told.send((seen, count))


def test_sums_stay_the_same_for_readers_while_workers_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # They change without a pause here, and on a busy machine for longer than readers usually put up with.
    monkeypatch.setattr("gateway.telemetry.metrics.files.PATIENCE_SECONDS", 60)
    for pid in range(WORKERS):
        write(tmp_path, pid)
    begun, ended = FORK.Event(), FORK.Event()
    here, there = FORK.Pipe()
    reader = FORK.Process(target=read_on, args=(tmp_path, begun, ended, there), daemon=True)
    reader.start()
    assert begun.wait(20)
    for pid in range(WORKERS):
        forget_worker(tmp_path, pid)
    ended.set()
    assert here.poll(60), "the reader failed"
    seen, count = here.recv()
    reader.join()
    assert count > 1
    assert seen == {(WORKERS, 2 * WORKERS, WORKERS, WORKERS / 4)}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["counter_ended.db", "histogram_ended.db"]


def test_what_is_put_together_is_as_prometheus_client_writes_it(tmp_path: Path) -> None:
    values = {key("a", "a_total", label="ü" * length): length + 0.5 for length in range(40)}
    (tmp_path / "counter_1.db").write_bytes(packed(values))
    written = MmapedDict(str(tmp_path / "counter_2.db"))  # type: ignore[no-untyped-call]
    for name, value in values.items():
        written.write_value(name, value, 0.0)  # type: ignore[no-untyped-call]
    written.close()  # type: ignore[no-untyped-call]
    for pid in (1, 2):
        forget_worker(tmp_path, pid)
    # Both its ways to read, of which one maps the file.
    file = str(tmp_path / "counter_ended.db")
    mapped = MmapedDict(file, read_mode=True)  # type: ignore[no-untyped-call]
    wanted = {name: 2 * value for name, value in values.items()}
    assert {name: value for name, value, _ in mapped.read_all_values()} == wanted  # type: ignore[no-untyped-call]
    assert {one[0]: one[1] for one in MmapedDict.read_all_values_from_file(file)} == wanted  # type: ignore[no-untyped-call]


def test_a_worker_that_counted_nothing_or_in_vain_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 1)
    forget_worker(tmp_path, 1)
    forget_worker(tmp_path, 2)
    (tmp_path / "counter_3.db").write_bytes(b"")
    forget_worker(tmp_path, 3)
    assert "what the worker 3 counted can't be read" in caplog.text
    assert samples(tmp_path)["seen_total"] == 1
    assert CHANGES.count % 2 == 0


def test_a_file_that_has_just_been_made_is_read_when_there_is_something_in_it(tmp_path: Path) -> None:
    write(tmp_path, 1)
    file = tmp_path / "counter_2.db"
    file.write_bytes(b"")
    tries = 0

    def read() -> dict[str, float]:
        nonlocal tries
        tries += 1
        if tries == 3:
            write(tmp_path, 2)
        return samples(tmp_path)

    assert unchanged(read)["seen_total"] == 2
    assert tries == 3
