"""A question to several servers: whoever answers first is heard, and those that hang hold up nobody."""

from __future__ import annotations

from threading import Event

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeout

from gateway.redis.first_response import FirstResponse

# Far longer than any test takes: who waits for it makes the test hang.
PATIENCE_SECONDS = 600.0


def test_the_first_answer_counts_while_others_hang_or_fail() -> None:
    released = Event()

    def ask(server: str) -> str:
        if server == "hangs":
            released.wait(60)
        if server == "fails":
            raise RedisConnectionError("refused")
        return server

    question = FirstResponse(ask, PATIENCE_SECONDS)
    try:
        assert question.get(["hangs", "fails", "answers", "hangs"]) == "answers"
        assert not released.is_set()
    finally:
        released.set()


def test_where_all_fail_it_is_told_why() -> None:
    def ask(_: str) -> str:
        raise RedisConnectionError("refused")

    with pytest.raises(RedisConnectionError, match="refused"):
        FirstResponse(ask, PATIENCE_SECONDS).get(["one", "two"])


def test_nonsense_is_no_answer() -> None:
    def ask(_: str) -> str:
        raise KeyError("flags")

    with pytest.raises(InvalidResponse, match="KeyError"):
        FirstResponse(ask, PATIENCE_SECONDS).get(["one"])


def test_nobody_answers_in_time() -> None:
    released = Event()
    try:
        question: FirstResponse[str, bool] = FirstResponse(lambda _: released.wait(60), 0.01)
        with pytest.raises(RedisTimeout):
            question.get(["hangs"])
    finally:
        released.set()
