"""The summary of several workers' reports and histories."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.status.report_schema import Slot, WorkerReport, read_history, read_report
from gateway.status.rolling_stats import SLOT_SECONDS, SLOTS
from gateway.status.summary import WorkerData, summarize

# This time is in the middle of a slot.
NUMBER = 180_000_000
NOW = NUMBER * SLOT_SECONDS + 5.0
URL = "http://10.0.0.1:8004"


def target(**more: Any) -> dict[str, Any]:
    closed = {"breaker": "closed", "open_seconds": 0.0, "is_paused": False, "in_flight": 0, "health": "not checked"}
    return {"url": URL, **closed, **more}


def report(pid: int = 1, at: float = NOW, **more: Any) -> WorkerReport:
    service = {"prefix": "/api/devices", "in_flight": 0, "targets": [target()], **more.pop("service", {})}
    tree = {
        "gateway": "one",
        "host": "host",
        "pid": pid,
        "build": "b",
        "configuration": "c",
        "at": at,
        "uptime_seconds": 3600.0,
        "rss_bytes": 1 << 20,
        "redis": "ok",
        "keys": [],
        "services": {"devices": service},
    }
    return WorkerReport.model_validate(tree | more)


def slot(number: int, requests: int, errors: int = 0, bucket: int = 3) -> Slot:
    return Slot(number, requests, errors, 0, {}, {bucket: requests})


def worker(report: WorkerReport | None, *slots: Slot) -> WorkerData:
    return WorkerData(report, {"devices": slots})


def devices(*workers: WorkerData, now: float = NOW) -> dict[str, Any]:
    (found,) = summarize(workers, now)["services"]
    assert found["name"] == "devices"
    return dict(found)


def test_workers_are_added_up_slot_by_slot() -> None:
    found = devices(
        worker(report(1, service={"in_flight": 2}), slot(NUMBER - 90, 10), slot(NUMBER - 1, 30, errors=3)),
        worker(report(2, service={"in_flight": 3}), slot(NUMBER - 1, 70, errors=2, bucket=9)),
    )
    assert (found["requests"], found["errors"], found["in_flight"]) == (110, 5, 5)
    history = found["history"]
    assert {len(points) for points in history.values()} == {SLOTS}
    assert (history["requests_per_second"][0], history["requests_per_second"][-1]) == (1.0, 10.0)
    assert set(history["requests_per_second"][1:-1]) == {0}
    assert history["error_share"][-1] == 0.05
    assert history["error_share"][1] is None
    # 100 requests in 55 seconds: five slots of ten seconds, and half of the current slot.
    assert found["requests_per_second"] == round(100 / 55, 2)
    # Buckets 3 and 9 end at 0.5 ms times the third and the ninth power of 1.5.
    assert 0.0005 * 1.5**8 < found["p50_seconds"] < found["p95_seconds"] < 0.0005 * 1.5**9


def test_a_slot_that_finished_after_the_report_is_counted_once() -> None:
    late = report(at=NOW - 6, service={"running": [NUMBER - 1, 20, 0, 0, {}, {3: 20}]})
    assert devices(worker(late, slot(NUMBER - 1, 25)))["requests"] == 25
    assert devices(worker(late))["requests"] == 20


def test_an_ended_workers_requests_stay_but_the_worker_is_not_listed() -> None:
    summary = summarize([worker(report(1), slot(NUMBER - 2, 1)), worker(None, slot(NUMBER - 2, 9))], NOW)
    assert summary["services"][0]["requests"] == 10
    assert [worker["pid"] for one in summary["gateways"] for worker in one["workers"]] == [1]


def test_the_last_point_is_shown_once_all_reports_cover_it() -> None:
    # The report of the second worker was made before the last slot ended.
    found = devices(worker(report(1), slot(NUMBER - 2, 10), slot(NUMBER - 1, 10)), worker(report(2, NOW - 6)))
    assert found["history"]["requests_per_second"][-2:] == [0, 1.0]
    assert found["requests"] == 20


def test_the_rate_of_a_new_gateway_is_calculated_over_its_uptime() -> None:
    running = {"running": [NUMBER, 20, 0, 0, {}, {3: 20}]}
    assert devices(worker(report(uptime_seconds=4.0, service=running)))["requests_per_second"] == 5.0


@pytest.mark.parametrize("hours", [-3, 3])
def test_slots_of_a_gateway_with_a_wrong_clock_are_shifted(hours: int) -> None:
    shift = hours * 3600
    there = NUMBER + shift // SLOT_SECONDS
    found = devices(worker(report(at=NOW + shift), slot(there - 3, 40)), worker(report(2), slot(NUMBER - 3, 10)))
    assert found["history"]["requests_per_second"][-3] == 5.0


def test_targets_combine_the_states_of_all_workers() -> None:
    openness = {"breaker": "open", "open_seconds": 3.25}
    found = devices(
        worker(report(1, service={"targets": [target(in_flight=1, health="healthy")]})),
        worker(report(2, service={"targets": [target(**openness, in_flight=2, health="unhealthy")]})),
        worker(report(3, service={"targets": [target(breaker="half-open", is_paused=True, health="healthy")]})),
        worker(report(4, service={"targets": [target(), target(url="http://other")]})),
    )
    assert found["targets"] == [
        {
            "url": URL,
            "workers": 4,
            "health": "unhealthy",
            "unhealthy_in": 1,
            "breaker": "open",
            "open_in": 1,
            "half_open_in": 1,
            "open_seconds": 3.2,
            "paused_in": 1,
            "in_flight": 3,
        },
        {
            "url": "http://other",
            "workers": 1,
            "health": "not checked",
            "unhealthy_in": 0,
            "breaker": "closed",
            "open_in": 0,
            "half_open_in": 0,
            "open_seconds": 0.0,
            "paused_in": 0,
            "in_flight": 0,
        },
    ]


def test_redis_and_keys_have_the_worst_state_of_all_workers() -> None:
    def keys(state: str, age: float | None = None) -> list[dict[str, Any]]:
        return [{"issuer": "https://id", "state": state, "age_seconds": age}]

    summary = summarize(
        [
            worker(report(1, redis="down", keys=keys("failing", 700.0))),
            worker(report(2, keys=keys("ok", 20.0))),
            worker(report(3, keys=keys("never loaded"))),
        ],
        NOW,
    )
    assert summary["redis"] == {"state": "down", "workers": 3, "down_in": 1}
    assert summary["keys"] == [
        {
            "issuer": "https://id",
            "state": "failing",
            "workers": 3,
            "failing_in": 1,
            "never_loaded_in": 1,
            "age_seconds": 700.0,
        }
    ]


def test_a_summary_without_workers() -> None:
    assert summarize([], NOW)["services"] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[" * 100_000,
        '{"gateway": 1}',
        report().model_dump_json().replace('"rss_bytes":1048576', '"rss_bytes":-1'),
        report().model_dump_json().replace('"closed"', '"ajar"'),
        report().model_dump_json().replace('"uptime_seconds":3600.0', '"uptime_seconds":1e999'),
        report(service={"running": slot(1, 1)}).model_dump_json().replace('{"3":1}', '{"31":1}'),
    ],
)
def test_invalid_reports_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_report(text)


def test_a_history_of_too_many_slots_is_rejected() -> None:
    row = "[1,1,0,0,{},{}]"
    assert len(read_history(f'{{"devices":[{",".join([row] * SLOTS)}]}}')["devices"]) == SLOTS
    with pytest.raises(ValueError, match="90"):
        read_history(f'{{"devices":[{",".join([row] * (SLOTS + 1))}]}}')


def test_a_report_survives_json() -> None:
    one = report(service={"running": slot(NUMBER, 3)})
    assert read_report(one.model_dump_json()) == one
