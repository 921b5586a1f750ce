"""Temporary folders that belong to one process, and are removed after it however it ended."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from gateway.system.processes import has_ended


def make_own_folder(prefix: str) -> Path:
    """A new folder that only this user can enter; those that ended processes left under the same prefix are removed."""
    remove_left_behind(prefix)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))


def remove_left_behind(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(prefix + "*"):
        owner = folder.name.removeprefix(prefix).partition("-")[0]
        with suppress(OSError, ValueError):
            if folder.stat().st_uid == os.getuid() and has_ended(int(owner)):
                shutil.rmtree(folder)
