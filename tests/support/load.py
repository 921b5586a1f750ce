"""Load for tests: a fixed number of clients, each sending one request after the other, and the outcomes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse

from tests.support.client import Connection, request_bytes

# A request counts as hanging if no byte arrives for this time.
PATIENCE_SECONDS = 30.0

NO_ANSWER, CUT, HANGS = "no answer", "cut", "hangs"


class Client:
    """Each call sends one request and returns its outcome. That is the status, followed by the gateway's error code if
    there is one (`503 upstream_open`), or one of: `cut`, if the connection ended within the response; `no answer`, if
    it ended before the response; `hangs`, if nothing arrived for PATIENCE_SECONDS. A reusable connection is kept for
    the next request."""

    def __init__(
        self, port: int, target: str, token: tuple[str, str], method: str = "GET", body: bytes | None = None
    ) -> None:
        self._port = port
        self._method = method
        self._data = request_bytes(method, target, [token], body)
        self._connection: Connection | None = None

    def __call__(self) -> str:
        connection, self._connection = self._connection or Connection(self._port, PATIENCE_SECONDS), None
        outcome, is_reusable = NO_ANSWER, False
        try:
            connection.send(self._data)
            response = HTTPResponse(connection.socket, method=self._method)
            response.begin()
            outcome = CUT
            response.read()
            code = response.getheader("X-Gateway-Error")
            outcome = f"{response.status} {code}" if code else str(response.status)
            is_reusable = not response.will_close
        except TimeoutError:
            outcome = HANGS
        except (OSError, HTTPException):
            pass
        if is_reusable:
            self._connection = connection
        else:
            connection.socket.close()
        return outcome

    def close(self) -> None:
        if self._connection is not None:
            self._connection.socket.close()


@dataclass
class Seen:
    """The outcomes of one client so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0


class Load:
    """The outcomes of all clients."""

    def __init__(self, clients: int) -> None:
        self.seen = [Seen() for _ in range(clients)]
        self.failures: list[BaseException] = []
        self.started = time.monotonic()
        self._ended: float | None = None

    @property
    def outcomes(self) -> Counter[str]:
        return sum((one.outcomes.copy() for one in self.seen), Counter[str]())

    @property
    def answered(self) -> int:
        return sum(one.outcomes.total() for one in self.seen)

    @property
    def slowest_seconds(self) -> float:
        return max(one.slowest_seconds for one in self.seen)

    @property
    def seconds(self) -> float:
        return (self._ended or time.monotonic()) - self.started

    @property
    def rate(self) -> float:
        """Responses per second."""
        return self.answered / self.seconds

    def share(self, outcome: str = "200") -> float:
        """The share of requests with this outcome, from 0 to 1."""
        outcomes = self.outcomes
        return outcomes[outcome] / outcomes.total()

    def end(self) -> None:
        self._ended = time.monotonic()

    def reach(self, total: int, outcome: str = "") -> None:
        """Waits until this number of requests in total have ended, or, with `outcome`, have ended with it."""
        deadline = time.monotonic() + 2 * PATIENCE_SECONDS
        while self._count(outcome) < total and not self.failures:
            assert time.monotonic() < deadline, (f"{total} of {outcome or 'any kind'}", self.outcomes)
            # Pause between two polls; its length does not matter.
            time.sleep(0.005)

    def wait_for(self, more: int, outcome: str = "") -> None:
        """Waits until this number of further requests have ended, or, with `outcome`, have ended with it."""
        self.reach(self._count(outcome) + more, outcome)

    def _count(self, outcome: str) -> int:
        return self.outcomes[outcome] if outcome else self.answered


@contextmanager
def asking(clients: Sequence[Callable[[], str]], pace_seconds: float) -> Iterator[Load]:
    """Runs the clients until the `with` block ends. Each has its own thread and makes this pause between two
    requests."""
    load, ended = Load(len(clients)), threading.Event()

    def ask_on(client: Callable[[], str], seen: Seen) -> None:
        try:
            while not ended.wait(pace_seconds):
                began = time.monotonic()
                outcome = client()
                seen.slowest_seconds = max(seen.slowest_seconds, time.monotonic() - began)
                seen.outcomes[outcome] += 1
        except BaseException as error:
            load.failures.append(error)

    threads = [
        threading.Thread(target=ask_on, args=(client, seen), daemon=True)
        for client, seen in zip(clients, load.seen, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        load.end()
        for client in clients:
            if isinstance(client, Client):
                client.close()
    assert not load.failures, load.failures
