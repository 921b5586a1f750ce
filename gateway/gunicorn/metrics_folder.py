"""The folder in which workers keep what they count, so that any of them can tell it for all (prometheus_client)."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.system.folders import make_own_folder
from gateway.telemetry.metrics import files as metrics_files

FOLDER_PREFIX = "gateway-worker-metrics-"
# By which prometheus_client is told, before it is first imported.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def open_metrics_folder() -> None:
    """Makes the folder, for this process and those forked from it. It is removed when this process ends."""
    os.environ[VARIABLE] = str(make_own_folder(FOLDER_PREFIX))


def forget_worker(pid: int) -> None:
    """Tidies up after a worker that has ended."""
    metrics_files.forget_worker(Path(os.environ[VARIABLE]), pid)
