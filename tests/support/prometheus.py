"""Prometheus from Debian's package: its server and promtool."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from gateway.system.processes import Child
from tests.support.gateway import ROOT
from tests.support.redis import free_port, wait_until

MONITORING = ROOT / "gateway" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
DASHBOARD = MONITORING / "dashboard.json"
# The job name that the alert rules expect.
JOB = "gateway"


def program(name: str) -> str:
    """The path of the program. If it is not installed, the test is skipped, but fails in CI."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed: apt-get install prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def promtool(*arguments: str, text: bytes = b"", folder: Path | None = None) -> str:
    """Runs promtool, which must succeed. Returns its output."""
    done = subprocess.run([program("promtool"), *arguments], input=text, capture_output=True, cwd=folder, check=False)
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    return told


class Prometheus:
    """A server that scrapes one gateway and evaluates the alert rules every second."""

    def __init__(self, folder: Path, scraped_port: int) -> None:
        self._port = free_port()
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [f"127.0.0.1:{scraped_port}"]}]}],
        }
        # Prometheus reads YAML, and JSON is valid YAML.
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        self._log = folder / "log"
        command = [
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self._child = Child.start(command, folder, self._log, {})
        try:
            wait_until(self._is_ready, f"Prometheus is ready; its log: {self._log}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._child.stop()

    def ask(self, path: str, **query: str) -> Any:
        """Requests the API of Prometheus, which must report success. Returns the data of the response."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urlencode(query)}"
        try:
            with urlopen(url, timeout=10) as reply:
                answer = json.load(reply)
        except HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from error
        assert answer["status"] == "success", answer
        assert not answer.get("warnings"), answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The current samples of an expression (PromQL)."""
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result

    def _is_ready(self) -> bool:
        assert not self._child.has_ended(), self._log.read_text()
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=10) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, scraped_port: int) -> Iterator[Prometheus]:
    server = Prometheus(folder, scraped_port)
    try:
        yield server
    finally:
        server.stop()


def expressions_of(panels: Sequence[Any]) -> dict[str, str]:
    """The queries of the dashboard's panels, by title and legend. All template variables are set to everything."""
    chosen = {"$__rate_interval": "30s", "$job": ".*", "$service": ".*"}
    found = {}
    for panel in panels:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for variable, value in chosen.items():
                expression = expression.replace(variable, value)
            found[f"{panel['title']}: {target['legendFormat']}"] = expression
    return found
