"""The benchmark of whole gateways runs; nothing is said of its figures."""

from __future__ import annotations

import subprocess
import sys

from tests.support.gateway import ROOT

TOLD = ["naive Flask + requests", "requests/s of the gateway to the naive one: ", "upstream_seconds"]


def test_it_runs_and_tells() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.compare", "--rounds", "1", "--seconds", "0.3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [words for words in TOLD if words not in done.stdout] == []
