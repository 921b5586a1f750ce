"""The files in which workers count (prometheus_client's multiprocess mode).

Each worker has a number, the smallest that no other living worker has. The names of its files contain this number
instead of a process id. So a worker that replaces one that has ended continues in the same files: sums never fall, and
there are only as many files as there were ever workers at the same time."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from gateway.system.folders import make_own_folder

FOLDER_PREFIX = "gateway-worker-metrics-"
# prometheus_client reads this variable when it is imported.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# The kinds of files that stay when a worker ends. The files of its gauges are deleted.
OUTLIVING = ("counter", "histogram")
MASTER = "master"

_number = MASTER
log = logging.getLogger(__name__)


def open_metrics_folder() -> None:
    """Makes the folder for this process and its children; it is removed when this process ends. Call this before
    prometheus_client is imported."""
    os.environ[FOLDER_VARIABLE] = str(make_own_folder(FOLDER_PREFIX))


def current_number() -> str:
    """The number of this process, prometheus_client's `process_identifier`. No two living processes have the same
    one."""
    return _number


def free_number(taken: Iterable[str]) -> str:
    """Chooses the number of the next worker. Only the master calls this, so two living workers never have the same
    number."""
    taken = set(taken)
    return next(number for number in map(str, range(len(taken) + 1)) if number not in taken)


def use_number(number: str) -> None:
    """Makes this process count in the files of this number. Called in the worker right after the fork."""
    global _number  # noqa: PLW0603 - one per process, like its id
    _number = number


def release_number(number: str) -> None:
    """Cleans up after a worker that has ended: removes its gauges, and files that its successor and each scrape could
    not read. Called in the master. Never raises, as an exception would end the gateway."""
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415 - imported after the folder exists
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - imported after the folder exists

    folder = os.environ[FOLDER_VARIABLE]
    try:
        mark_process_dead(number, folder)  # type: ignore[no-untyped-call]
        for kind in OUTLIVING:
            file = Path(folder, f"{kind}_{number}.db")
            try:
                list(MmapedDict.read_all_values_from_file(file))  # type: ignore[no-untyped-call]
            except FileNotFoundError:
                """The worker ended before it created the file."""
            except (ValueError, RuntimeError, struct.error) as error:
                # The worker was killed while it created the file, or the disk is damaged.
                log.warning("metrics: %s can't be read and is deleted, its counts are lost: %s", file.name, error)
                file.unlink()
    except OSError as error:
        log.warning("metrics: the files of an ended worker can't be checked: %s", error)
