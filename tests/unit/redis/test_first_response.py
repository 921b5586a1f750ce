"""FirstResponse returns the first response, and is not delayed by servers that hang."""

from __future__ import annotations

from threading import Event

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeout

from gateway.redis.first_response import FirstResponse

# Longer than any test may take: a call that waits this long makes the test hang.
PATIENCE_SECONDS = 600.0


def test_the_first_response_is_returned_while_others_hang_or_fail() -> None:
    released = Event()

    def ask(server: str) -> str:
        if server == "hangs":
            released.wait(60)
        if server == "fails":
            raise RedisConnectionError("refused")
        return server

    lookup = FirstResponse(ask, PATIENCE_SECONDS)
    try:
        assert lookup.get(["hangs", "fails", "answers", "hangs"]) == "answers"
        assert not released.is_set()
    finally:
        released.set()


def test_if_all_servers_fail_an_error_of_one_is_raised() -> None:
    def ask(_: str) -> str:
        raise RedisConnectionError("refused")

    with pytest.raises(RedisConnectionError, match="refused"):
        FirstResponse(ask, PATIENCE_SECONDS).get(["one", "two"])


def test_another_exception_is_an_invalid_response() -> None:
    def ask(_: str) -> str:
        raise KeyError("flags")

    with pytest.raises(InvalidResponse, match="KeyError"):
        FirstResponse(ask, PATIENCE_SECONDS).get(["one"])


def test_no_response_in_time() -> None:
    released = Event()
    try:
        lookup: FirstResponse[str, bool] = FirstResponse(lambda _: released.wait(60), 0.01)
        with pytest.raises(RedisTimeout):
            lookup.get(["hangs"])
    finally:
        released.set()
