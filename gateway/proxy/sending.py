"""What a connection knows of a request that is still being sent while its answer may already come in."""

from __future__ import annotations

from typing import Protocol


class Sending(Protocol):
    """See `upload.Upload`. `descriptor` becomes readable when it has ended, whichever way."""

    descriptor: int
    is_running: bool

    def raise_failure(self) -> None: ...
    def wait(self) -> None: ...
    def close(self) -> None: ...
