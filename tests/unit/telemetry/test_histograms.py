"""Histograms whose values are stored first and counted later, in batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from gateway.telemetry.metrics.histograms import DeferredHistogram, observe_all

BOUNDS = (0.1, 1.0, 10.0)


def histogram() -> tuple[Histogram, CollectorRegistry]:
    registry = CollectorRegistry()
    return Histogram("seconds", "Of a test.", buckets=BOUNDS, registry=registry), registry


def exposition(registry: CollectorRegistry) -> bytes:
    return b"\n".join(line for line in generate_latest(registry).splitlines() if b"_created" not in line)


@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0, 2.0, 10.0, 16.0, 1024.0])))
def test_values_counted_in_a_batch_count_like_values_observed_one_by_one(values: list[float]) -> None:
    at_once, registry_at_once = histogram()
    one_by_one, registry_one_by_one = histogram()
    observe_all(at_once, values)
    for value in values:
        one_by_one.observe(value)
    assert exposition(registry_at_once) == exposition(registry_one_by_one)


def test_deferred_values_are_counted_once() -> None:
    counted, registry = histogram()
    deferred = DeferredHistogram(counted)
    deferred.observe(0.5)
    deferred.observe(5)
    assert b"seconds_count 0.0" in exposition(registry)
    deferred.flush()
    deferred.flush()
    assert b"seconds_count 2.0" in exposition(registry)
    assert b"seconds_sum 5.5" in exposition(registry)
