"""Asks several servers, any of which may hang, the same question: where is the master? Which node has which slots?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from threading import Lock
from typing import Generic, TypeVar

from redis import RedisError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeout

from gateway.system.threads import TaskGroup

Server = TypeVar("Server")
Response = TypeVar("Response")


class FirstResponse(Generic[Server, Response]):
    """Asks all servers at once and returns the first response, so that a server that hangs delays nobody.

    `ask` returns a server's response, or raises RedisError or OSError."""

    def __init__(self, ask: Callable[[Server], Response], timeout_seconds: float) -> None:
        self._ask = ask
        self._timeout_seconds = timeout_seconds
        self._lock = Lock()
        self._asked_until = float("-inf")
        # The response of the last attempt; empty if the attempt failed.
        self._responses: list[Response] = []
        self._failure: Exception = RedisTimeout("no server was asked")

    def get(self, servers: Iterable[Server]) -> Response:
        """The first response. Raises RedisError or OSError if no server responds within the timeout."""
        wanted_at = time.monotonic()
        with self._lock:
            # A result that arrived while this caller waited for the lock is recent enough. If each caller asked again,
            # many at once would wait for one timeout after the other.
            if self._asked_until < wanted_at:
                self._responses = []
                try:
                    self._responses = [self._ask_all(list(servers))]
                except (RedisError, OSError) as error:
                    self._failure = error
                self._asked_until = time.monotonic()
            for response in self._responses:
                return response
            raise self._failure.with_traceback(None)

    def _ask_all(self, servers: list[Server]) -> Response:
        responses: list[Response] = []
        failures: list[Exception] = [RedisTimeout("no server responds")]

        def ask(server: Server) -> None:
            try:
                responses.append(self._ask(server))
            except (RedisError, OSError) as error:
                failures.append(error)
            except Exception as error:
                # The response has an unexpected structure, so the server is not of the expected kind.
                failures.append(InvalidResponse(f"an unexpected response ({type(error).__name__})"))

        tasks = TaskGroup(len(servers))
        tasks.begin(partial(ask, server) for server in servers)
        tasks.wait(self._timeout_seconds, lambda: bool(responses))
        for response in responses:
            return response
        raise failures[-1]
