"""What importing `wsgi` costs a process, in a new interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.gateway import ROOT, clean_environment
from tests.support.tokens import SECRET

CODE = """
import gc, json, sys
import wsgi
print(json.dumps([gc.isenabled(), gc.get_freeze_count(), sorted(sys.modules)]))
"""


def test_wsgi_imports_no_sdk_of_opentelemetry_and_leaves_little_to_the_garbage_collector() -> None:
    environ = {**clean_environment(), "GATEWAY_JWT__SECRET": SECRET}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    is_enabled, frozen, modules = json.loads(done.stdout)
    assert is_enabled
    assert frozen > 50_000
    assert "redis" in modules
    assert not [name for name in modules if name.startswith("opentelemetry")]
