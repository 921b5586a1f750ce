"""The files in which workers keep what they count (prometheus_client's): read by who tells it, tidied by the master.

What an ended worker counted must stay in the sums, but not its files: those of all ended ones are kept as one. While a
file goes and another one comes, what is there is counted twice, or not at all; so whoever reads sees that the files
were changed in the meantime, and reads again. Nobody waits for anybody: a stuck reader must not stop the master.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

# What is added up over all workers that live or have lived.
SUMMED = ("counter", "histogram")
# In place of a worker's process id.
ENDED = "ended"
# A file that has just been made may still be empty, one that was seen may be gone.
PASSING = (FileNotFoundError, struct.error)
UNREADABLE = (ValueError, RuntimeError, struct.error)
NOT_PUT = "what the worker %s counted can't be put to the others': %s"
PATIENCE_SECONDS = 2.0
PAUSE_SECONDS = 0.002

log = logging.getLogger(__name__)


class Changes:
    """How often the files were changed, by the only one who removes any: the master. Odd while it does. It is memory
    that the master shares with all that it forks."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)

    @property
    def count(self) -> int:
        return int.from_bytes(self._shared[:8], "little")

    @contextmanager
    def change(self) -> Iterator[None]:
        before = self.count
        self._shared[:8] = (before + 1).to_bytes(8, "little")
        try:
            yield
        finally:
            self._shared[:8] = (before + 2).to_bytes(8, "little")


# Made when this is first imported, which gunicorn's master does before it forks.
CHANGES = Changes()


def unchanged(read: Callable[[], Result]) -> Result:
    """What `read` returns, read while no files came or went. Should they do so for seconds, what was read last."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        before, is_over = CHANGES.count, time.monotonic() > deadline
        try:
            result = read()
        except PASSING:
            if is_over:
                raise
        else:
            if is_over or (before % 2 == 0 and CHANGES.count == before):
                return result
        time.sleep(PAUSE_SECONDS)


def forget_worker(folder: Path, pid: int) -> None:
    """Takes what only a living worker can have (requests in flight, say) out of the sums, and puts what it counted to
    what other ended ones did. For the master alone; never raises, as that would end it."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - must not be imported before the folder is there

    merged = {}
    for kind in SUMMED:
        kept, own = folder / f"{kind}_{ENDED}.db", folder / f"{kind}_{pid}.db"
        if own.exists():
            try:
                merged[kind] = written_beside(kept, packed(summed([kept, own])))
            except UNREADABLE as error:
                # It ended while it made the file. Whoever reads would stumble over it for ever.
                log.warning("what the worker %s counted can't be read: %s", pid, error)
                own.unlink()
            except OSError as error:
                # It stays as it is, and is in the sums all the same.
                log.warning(NOT_PUT, pid, error)
    with CHANGES.change():
        for kind, file in merged.items():
            try:
                file.replace(folder / f"{kind}_{ENDED}.db")
                (folder / f"{kind}_{pid}.db").unlink()
            except OSError as error:
                log.warning(NOT_PUT, pid, error)
        try:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except OSError as error:
            log.warning("what the worker %s was can't be forgotten: %s", pid, error)


def summed(files: Iterable[Path]) -> Mapping[str, float]:
    """The values of the files by their keys, those of the same key added up. Raises OSError and others for a file that
    can't be read; one that is not there has no values."""
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415 - see above

    sums: defaultdict[str, float] = defaultdict(float)
    for file in files:
        if file.exists():
            for key, value, _, _ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call]
                sums[key] += value
    return sums


def packed(values: Mapping[str, float]) -> bytes:
    """A file as prometheus_client's MmapedDict reads it. It is not written by that: writing to mapped memory ends the
    process where the disk is full."""
    entries = bytearray()
    for key, value in values.items():
        encoded = key.encode()
        padded = encoded + b" " * (8 - (len(encoded) + 4) % 8)
        entries += struct.pack(f"i{len(padded)}sdd", len(encoded), padded, value, 0.0)
    return struct.pack("ii", 8 + len(entries), 0) + entries


def written_beside(file: Path, content: bytes) -> Path:
    """A new file with that content, under a name by which nobody reads it. Raises OSError."""
    beside = file.with_suffix(f".new-{os.getpid()}")
    beside.write_bytes(content)
    return beside
