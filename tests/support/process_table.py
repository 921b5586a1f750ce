"""Processes and sockets that a test started, as the system lists them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.gateway import GatewayProcess


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        GatewayProcess.pause()
    return True


def listeners_of(pid: int) -> set[str]:
    """The TCP sockets on which this process listens."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {f"socket:[{fields[9]}]" for fields in lines if fields[3] == "0A"}
    return listening & {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}


def own_folders(gateway: GatewayProcess) -> list[Path]:
    """The temporary folders of this gateway: of its Redis and of its metrics."""
    return sorted(Path(tempfile.gettempdir()).glob(f"gateway-*-{gateway.process.pid}-*"))
