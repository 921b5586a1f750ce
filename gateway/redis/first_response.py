"""A question to several servers of which any may hang: where is the master, who has which slots. And the addresses that
they tell."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Generic, TypeVar

from redis import RedisError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeout

Address = tuple[str, int]

# A name or an address of any family.
HOST = re.compile(r"[A-Za-z0-9_.:%-]{1,255}")

Server = TypeVar("Server")
Answer = TypeVar("Answer")


class FirstAnswer(Generic[Server, Answer]):
    """Asks all servers at once and takes the first answer: one that hangs holds up nobody.

    `ask` returns it, or raises a RedisError or OSError where that server has none to give."""

    def __init__(self, ask: Callable[[Server], Answer], timeout_seconds: float) -> None:
        self._ask = ask
        self._timeout_seconds = timeout_seconds
        self._lock = Lock()
        self._answered_at = float("-inf")
        self._answers: list[Answer] = []
        self._failure: Exception = RedisTimeout("nobody was asked")

    def get(self, servers: Iterable[Server]) -> Answer:
        """Waits no longer than the timeout. Raises RedisError or OSError where there is no answer in that time."""
        wanted_at = time.monotonic()
        with self._lock:
            # What was answered while this one waited for the lock is as good as an answer of its own. Without that,
            # many requests at once would wait for one timeout after the other.
            if self._answered_at < wanted_at:
                self._answers = []
                try:
                    self._answers = [self._ask_all(list(servers))]
                except (RedisError, OSError) as error:
                    self._failure = error
                self._answered_at = time.monotonic()
            for answer in self._answers:
                return answer
            raise self._failure.with_traceback(None)

    def _ask_all(self, servers: list[Server]) -> Answer:
        answers: SimpleQueue[Answer | Exception] = SimpleQueue()

        def ask(server: Server) -> None:
            try:
                answers.put(self._ask(server))
            except (RedisError, OSError) as error:
                answers.put(error)
            except Exception as error:
                # It answered something else than what was asked: whoever that is, it is not the one that is wanted.
                answers.put(InvalidResponse(f"not an answer to the question ({type(error).__name__})"))

        deadline = time.monotonic() + self._timeout_seconds
        for server in servers:
            Thread(target=ask, args=(server,), daemon=True).start()
        failure: Exception = RedisTimeout("nobody answers")
        for _ in servers:
            try:
                answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                break
            if not isinstance(answer, Exception):
                return answer
            failure = answer
        raise failure


def node_address(host: object, port: object) -> Address:
    """The address of a server as another one tells it. Raises InvalidResponse where there can't be one."""
    if not isinstance(host, str) or HOST.fullmatch(host) is None or not isinstance(port, int) or not 0 < port < 65536:
        raise InvalidResponse("not the address of a server")
    return host, port
