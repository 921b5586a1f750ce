"""Counts the CPUs that this process may use: its affinity and the limits of its container (cgroups) apply."""

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
    """The number of usable CPUs, at least 1. A container's limit is rounded up: 1.5 CPUs are work for two processes."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, cgroup_cpus(ROOT, OWN))))


def cgroup_cpus(root: Path, own: Path) -> float:
    """The least CPU limit of this process' cgroup and the cgroups around it; infinite if there is no limit. `root` is
    the folder where cgroups are mounted, `own` is the file that names the process' cgroup."""
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
    """The folders of the process' cgroup and of the cgroups around it. In a container, `root` may be the container's
    own cgroup."""
    yield root
    folder = root
    for name in path.split("/"):
        if name and name != "..":
            folder = folder / name
            yield folder


def limit_v2(folder: Path) -> float:
    """The limit in cpu.max (cgroups v2): `150000 100000`, or `max 100000` for no limit."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        if quota != "max" and int(quota) > 0 and int(period) > 0:
            return int(quota) / int(period)
    return math.inf


def limit_v1(folder: Path) -> float:
    """The limit in cpu.cfs_quota_us and cpu.cfs_period_us (cgroups v1); a quota of -1 is no limit."""
    with suppress(OSError, ValueError):
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        if quota > 0 and period > 0:
            return quota / period
    return math.inf
