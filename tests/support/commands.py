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


def start_flask(
    *words: str, environ: dict[str, str] | None = None, folder: Path = ROOT, is_whole: bool = False
) -> subprocess.Popen[str]:
    """A `flask` command. Its environment has a secret, or `environ`; nothing else if `is_whole`."""
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
    """The exit code, standard output and standard error of a `flask` command."""
    if folder == ROOT and not is_whole:
        own = {"GATEWAY_JWT__SECRET": SECRET} if environ is None else environ
        done = run(["flask", *words], clean_environment() | own)
        return done.returncode, done.stdout, done.stderr
    process = start_flask(*words, environ=environ, folder=folder, is_whole=is_whole)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors
