"""Runs the gateway's `flask` commands and other Python programs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.gateway import ROOT, clean_environment, variables
from tests.support.preloaded import run
from tests.support.tokens import SECRET


def flask(
    *words: str,
    settings: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    code: int = 0,
    without: Iterable[str] = (),
) -> str:
    """What `flask WORDS` prints; `without` some of the usual variables. Fails with what it says where it ends with
    another exit code."""
    wanted = clean_environment() | {"GATEWAY_JWT__SECRET": SECRET} | variables(settings or {}) | dict(environ or {})
    for name in without:
        del wanted[name]
    done = run(["flask", *words], wanted)
    assert done.returncode == code, done.stderr
    return done.stdout


def python(*words: str) -> str:
    """What `python WORDS` prints. Fails where it says anything else, or ends with another exit code than 0."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
