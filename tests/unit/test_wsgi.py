"""A start imports only what it needs. The tests import in a new interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.gateway import ROOT, clean_environment
from tests.support.tokens import SECRET

CODE = """
import gc, importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps([gc.isenabled(), gc.get_freeze_count(), sorted(sys.modules)]))
"""


def importing(module: str) -> tuple[bool, int, list[str]]:
    """Imports a module in a new interpreter. Returns whether the garbage collector is on, how many objects it ignores,
    and the names of all imported modules."""
    environ = {**clean_environment(), "GATEWAY_JWT__SECRET": SECRET}
    done = subprocess.run(
        [sys.executable, "-c", CODE, module], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    is_enabled, frozen, modules = json.loads(done.stdout)
    return is_enabled, frozen, modules


# gunicorn.conf.py first imports the checks; wsgi.py imports the application.
@pytest.mark.parametrize("module", ["wsgi", "gateway.library_checks"])
def test_no_sdk_of_opentelemetry_is_imported(module: str) -> None:
    _, _, modules = importing(module)
    assert "redis" in modules
    assert not [name for name in modules if name.startswith("opentelemetry")]


def test_the_garbage_collector_spares_the_application_and_is_on() -> None:
    is_enabled, frozen, _ = importing("wsgi")
    assert is_enabled
    assert frozen > 50_000
