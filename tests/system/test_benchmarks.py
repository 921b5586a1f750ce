"""Benchmarks of whole gateways run; nothing is said of their figures."""

from __future__ import annotations

import pytest

from tests.support.commands import python

SHORT = "--rounds 1 --seconds 0.3"


@pytest.mark.parametrize(
    ("name", "options", "told"),
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
def test_it_runs_and_tells(name: str, options: str, told: list[str]) -> None:
    said = python("-m", f"tests.benchmarks.{name}", *options.split())
    assert [words for words in told if words not in said] == []
