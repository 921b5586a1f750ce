"""A document that is fetched again before its time: a request asked for an operation that it does not have, which the
service may have got since."""

from __future__ import annotations

import time
from threading import Event

# After one renewal of a document the next one is no sooner, whatever is asked for: of all workers and gateways.
COOLDOWN_SECONDS = 5.0
# No request waits longer than this for a renewal.
WAIT_SECONDS = 2.0
# How often a worker looks whether another one has ended fetching.
TURN_LOOK_SECONDS = 0.05


class Renewal:
    """One renewal, for all requests that ask while it goes on. `ended` is set once what came of it is in use."""

    def __init__(self) -> None:
        self.ended = Event()
        self._begun_at = time.monotonic()

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self._begun_at

    def wait(self) -> None:
        """Until it has ended, and no longer than WAIT_SECONDS after its beginning."""
        self.ended.wait(max(0.0, WAIT_SECONDS - self.age_seconds))
