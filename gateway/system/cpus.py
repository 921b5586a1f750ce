"""How many CPUs this process may use, by its affinity and by the limits of its container (cgroups)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


@cache
def usable_cpus() -> int:
    """At least 1. The limit of a container is rounded up: 1.5 CPUs are work for two processes."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, cgroup_cpus(ROOT, OWN))))


def cgroup_cpus(root: Path, own: Path) -> float:
    """The least CPU limit of this process' cgroup and the cgroups around it; infinite if there is none. `root` is where
    cgroups are mounted, `own` the file that names the process' cgroup."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return math.inf
    limits = [math.inf]
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            limits += [limit_v2(folder) for folder in folders(root, path)]
        elif "cpu" in controllers.split(","):
            limits += [limit_v1(folder) for name in (controllers, "cpu") for folder in folders(root / name, path)]
    return min(limits)


def folders(root: Path, path: str) -> Iterator[Path]:
    """The folders of the cgroup and those around it. In a container, `root` may be the container's own cgroup."""
    yield root
    folder = root
    for name in path.split("/"):
        if name and name != "..":
            folder = folder / name
            yield folder


def limit_v2(folder: Path) -> float:
    """From cpu.max: `150000 100000`, or `max 100000` for no limit."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        if quota != "max" and int(quota) > 0 and int(period) > 0:
            return int(quota) / int(period)
    return math.inf


def limit_v1(folder: Path) -> float:
    """From cpu.cfs_quota_us and cpu.cfs_period_us; a quota of -1 is no limit."""
    with suppress(OSError, ValueError):
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        if quota > 0 and period > 0:
            return quota / period
    return math.inf
