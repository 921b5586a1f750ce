"""Runs the gateway's `flask` commands and other Python programs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
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
    """Runs `flask WORDS` and returns its standard output. `without` names usual variables that are left out. Fails with
    the command's standard error if the exit code is not `code`."""
    wanted = clean_environment() | {"GATEWAY_JWT__SECRET": SECRET} | variables(settings or {}) | dict(environ or {})
    for name in without:
        del wanted[name]
    done = run(["flask", *words], wanted)
    assert done.returncode == code, done.stderr
    return done.stdout


def python(*words: str) -> str:
    """Runs `python WORDS` and returns its standard output. Fails if anything is on standard error, or if the exit code
    is not 0."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def start_flask(
    *words: str, environ: dict[str, str] | None = None, folder: Path = ROOT, is_whole: bool = False
) -> subprocess.Popen[str]:
    """Starts a `flask` command. `environ` replaces the variable that sets a secret. With `is_whole`, the command gets
    no other variables."""
    own = {"GATEWAY_JWT__SECRET": SECRET} if environ is None else environ
    return subprocess.Popen(
        [sys.executable, "-m", "flask", *words],
        cwd=folder,
        env=own if is_whole else clean_environment() | own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run_flask(
    *words: str, environ: dict[str, str] | None = None, folder: Path = ROOT, is_whole: bool = False
) -> tuple[int, str, str]:
    """Runs a `flask` command to its end. Returns exit code, standard output and standard error. Parameters as for
    `start_flask`."""
    if folder == ROOT and not is_whole:
        own = {"GATEWAY_JWT__SECRET": SECRET} if environ is None else environ
        done = run(["flask", *words], clean_environment() | own)
        return done.returncode, done.stdout, done.stderr
    process = start_flask(*words, environ=environ, folder=folder, is_whole=is_whole)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors
