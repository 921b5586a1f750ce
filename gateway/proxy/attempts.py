"""What was tried for a request, for the log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Attempt:
    """One try to get an answer: the target's URL; `answered`, the code of the error, `given up` or `stale connection`;
    and how long it took until the answer had begun: its head, and the first piece of a body that is no stream."""

    target: str
    outcome: str
    seconds: float
