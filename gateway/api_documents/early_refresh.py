"""An early refresh: a document is fetched before it is due, because a request was for an operation that it does not
have."""

from __future__ import annotations

import time
from threading import Event

# The shortest time between two early refreshes of a document by all workers and gateways that share a Redis.
COOLDOWN_SECONDS = 5.0
# The longest time that a request waits for an early refresh.
MAX_WAIT_SECONDS = 2.0
# How long a worker waits before it tries again to get the lock on a fetch that another worker is doing.
RETRY_SECONDS = 0.05


class EarlyRefresh:
    """An early refresh, shared by all requests that need it while it runs. `ended` is set once its result is in use."""

    def __init__(self) -> None:
        self.ended = Event()
        self._started_at = time.monotonic()

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self._started_at

    def wait(self) -> None:
        """Returns when the refresh has ended, at the latest MAX_WAIT_SECONDS after its start."""
        self.ended.wait(max(0.0, MAX_WAIT_SECONDS - self.age_seconds))
