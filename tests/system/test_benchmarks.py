"""The benchmarks run and print their figures; the figures themselves are not checked."""

from __future__ import annotations

import pytest

from tests.support.commands import python

SHORT = "--rounds 1 --seconds 0.3"


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (
            "compare",
            SHORT,
            ["naive Flask + requests", "requests/s of the gateway to the naive one: ", "upstream_seconds"],
        ),
        (
            "growth",
            f"{SHORT} --services 5 --callers 50 --step 0.3",
            ["5 services", "many to 4: ", "MiB of the workers"],
        ),
    ],
)
def test_a_benchmark_runs_and_prints_figures(name: str, options: str, expected: list[str]) -> None:
    said = python("-m", f"tests.benchmarks.{name}", *options.split())
    assert [words for words in expected if words not in said] == []
