"""The benchmarks of whole gateways run; nothing is said of their figures."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.gateway import ROOT


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("compare", ["naive Flask + requests", "requests/s of the gateway to the naive one: ", "upstream_seconds"]),
        ("overhead", ["everything off", "everything on", "on, and spans of every request"]),
    ],
)
def test_it_runs_and_tells(name: str, told: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", "--rounds", "1", "--seconds", "0.3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [words for words in told if words not in done.stdout] == []
