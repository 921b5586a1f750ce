"""Workers count in files. A worker continues the files of an ended one, while other workers read them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import registry, worker_files
from gateway.telemetry.metrics.worker_files import free_number, release_number, use_number

FORK = multiprocessing.get_context("fork")
SAVED_BEFORE_THE_KILL = 200
KILLS = 15


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the worker files. Metrics that are created after this fixture count in files of this folder."""
    monkeypatch.setenv(worker_files.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(registry, "IS_MULTIPROCESS", True)
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue(worker_files.current_number))  # type: ignore[no-untyped-call]
    monkeypatch.setattr(worker_files, "_number", worker_files.MASTER)
    return tmp_path


def samples() -> dict[str, float]:
    """The samples that any worker would return at /metrics."""
    families = text_string_to_metric_families(registry.Metrics().exposition().decode())
    return {one.name + one.labels.get("le", ""): one.value for family in families for one in family.samples}


def in_worker(work: Callable[[], None], number: str) -> Any:
    def run() -> None:
        use_number(number)
        work()

    process = FORK.Process(target=run, daemon=True)
    process.start()
    return process


def count(times: int = 1) -> None:
    metrics = CollectorRegistry()
    seen = Counter("seen", "Of a test.", registry=metrics)
    took = Histogram("took", "Of a test.", buckets=(0.5,), registry=metrics)
    alive = Gauge("alive", "Of a test.", registry=metrics, multiprocess_mode="livesum")
    alive.set(1)
    for _ in range(times):
        seen.inc()
        took.observe(0.25)


def test_a_worker_continues_in_the_files_of_the_ended_one(folder: Path) -> None:
    for restart in range(5):
        assert free_number(()) == "0"
        in_worker(count, "0").join()
        found = samples()
        assert (found["seen_total"], found["took_bucket0.5"], found["took_sum"]) == (
            restart + 1,
            restart + 1,
            (restart + 1) / 4,
        )
        assert found["alive"] == 1
        release_number("0")
        assert "alive" not in samples()
    assert {file.name for file in folder.iterdir() if "_0." in file.name} == {"counter_0.db", "histogram_0.db"}


def test_a_number_is_free_until_a_living_worker_has_it() -> None:
    assert [free_number(taken) for taken in ((), ("0",), ("1",), ("1", "0"), ("2", "0"))] == ["0", "1", "0", "2", "1"]


def test_workers_of_different_numbers_share_no_file(folder: Path) -> None:
    workers = [in_worker(lambda: count(100), str(number)) for number in range(3)]
    for worker in workers:
        worker.join()
    assert samples()["seen_total"] == 300
    names = {f"{kind}_{number}.db" for kind in ("counter", "histogram", "gauge_livesum") for number in range(3)}
    assert names <= {file.name for file in folder.iterdir()}


@pytest.mark.usefixtures("folder")
def test_no_count_is_lost_or_doubled_when_workers_are_killed_while_they_count() -> None:
    is_over = FORK.Event()
    here, there = FORK.Pipe()

    def scrape() -> None:
        readings = []
        while not is_over.is_set():
            readings.append(samples().get("seen_total", 0.0))
        there.send(readings)

    scraper = in_worker(scrape, "1")
    for _ in range(KILLS):
        counted = FORK.Event()
        worker = in_worker(lambda counted=counted: count_until_killed(counted), "0")  # type: ignore[misc]
        assert counted.wait(30)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        release_number("0")
    is_over.set()
    assert here.poll(30), "the scraper failed"
    readings = here.recv()
    scraper.join()
    assert readings == sorted(readings)
    assert samples()["seen_total"] >= KILLS * SAVED_BEFORE_THE_KILL
    in_worker(count, "0").join()
    assert samples()["seen_total"] > readings[-1]


def count_until_killed(counted: Event) -> None:
    count(SAVED_BEFORE_THE_KILL)
    counted.set()
    while True:
        count()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff\x7f" + b"\xff" * 60])
def test_an_unreadable_file_of_an_ended_worker_is_deleted(
    folder: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    in_worker(count, "1").join()
    (folder / "counter_0.db").write_bytes(content)
    release_number("0")
    assert "metrics: counter_0.db can't be read and is deleted, its counts are lost" in caplog.text
    in_worker(count, "0").join()
    assert samples()["seen_total"] == 2


def test_a_file_that_has_just_been_created_is_read_once_it_has_content(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The scrape tries many times, because on a busy machine the other process may need longer than usual to start.
    monkeypatch.setattr(registry, "SCRAPE_ATTEMPTS", 10_000)
    in_worker(count, "0").join()
    in_worker(count, "1").join()
    file, complete = folder / "counter_1.db", folder / "complete"
    file.rename(complete)
    file.write_bytes(b"")
    here, there = FORK.Pipe()
    scraper = in_worker(lambda: there.send(samples()["seen_total"]), "2")
    # The file gets its content in one step. A file that has been created but not counted in yet would rightly have no
    # samples.
    complete.replace(file)
    assert here.poll(30), "the scraper failed"
    assert here.recv() == 2
    scraper.join()
