"""How many processors this process may use: the machine's, those it is bound to, or what its container may take."""

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
    """At least 1. A container's share is rounded up: one of 1.5 has work for two processes."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, cgroup_cpus(ROOT, OWN))))


def cgroup_cpus(root: Path, own: Path) -> float:
    """The share of the group that this process is in, or of one around it, whichever is least; infinite where there is
    none. `root` is where the groups are mounted, `own` says which one it is."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return math.inf
    shares = [math.inf]
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            shares += [share_by_v2(folder) for folder in folders(root, path)]
        elif "cpu" in controllers.split(","):
            shares += [share_by_v1(folder) for name in (controllers, "cpu") for folder in folders(root / name, path)]
    return min(shares)


def folders(root: Path, path: str) -> Iterator[Path]:
    """That of the group, and those around it. In a container its own group may be all that is mounted."""
    yield root
    folder = root
    for name in path.split("/"):
        if name and name != "..":
            folder = folder / name
            yield folder


def share_by_v2(folder: Path) -> float:
    """By cpu.max: `150000 100000`, or `max 100000`."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        if quota != "max" and int(quota) > 0 and int(period) > 0:
            return int(quota) / int(period)
    return math.inf


def share_by_v1(folder: Path) -> float:
    """By two files; -1 is no limit."""
    with suppress(OSError, ValueError):
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        if quota > 0 and period > 0:
            return quota / period
    return math.inf
