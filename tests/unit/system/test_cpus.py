"""The usable CPUs, from the cgroup files of Linux."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from gateway.config import ServerSettings
from gateway.system import cpus
from gateway.system.cpus import cgroup_cpus


@pytest.mark.parametrize(
    ("groups", "files", "share"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),
        ("0::/\n", {"cpu.max": "nonsense"}, math.inf),
        ("0::/\n", {"cpu.max": "0 0"}, math.inf),
        # A group can have a limit itself, and each group around it can have one, too. The lowest counts.
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
        ("0::/../a\n", {"a/cpu.max": "100000 100000"}, 1),
        # Version 1 on a host: the files are in the folder of the process's own group.
        (
            "5:cpu,cpuacct:/docker/x\n1:name=systemd:/\n",
            {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        # Version 1 in a container: only its own group is mounted, as the root.
        ("5:cpuacct,cpu:/docker/x\n", {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5),
        # Version 1 with no limit, then with no group for CPUs.
        ("5:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("5:memory:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("\nnonsense\n", {}, math.inf),
    ],
)
def test_the_least_limit_of_the_cgroups_counts(
    groups: str, files: dict[str, str], share: float, tmp_path: Path
) -> None:
    own, root = tmp_path / "own", tmp_path / "root"
    own.write_text(groups)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert cgroup_cpus(root, own) == share


def test_without_cgroup_files_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_cpus(tmp_path, tmp_path / "none") == math.inf


@pytest.mark.parametrize(("share", "workers"), [("50000 100000", 2), ("250000 100000", 3), ("max 100000", None)])
def test_there_is_one_worker_per_usable_cpu(
    share: str, workers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text(share)
    monkeypatch.setattr(cpus, "ROOT", tmp_path)
    monkeypatch.setattr(cpus, "OWN", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    cpus.usable_cpus.cache_clear()
    try:
        assert ServerSettings().worker_count == (workers or 8)
        assert ServerSettings(workers=1).worker_count == 1
    finally:
        cpus.usable_cpus.cache_clear()
