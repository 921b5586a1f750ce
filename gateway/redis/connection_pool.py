"""Connections to one server, for the command that every request needs.

redis-py makes and reads them; its client above does much for each command that is of no use here (retries, callbacks,
observability, a pool made of a queue), and takes half as long again for it.
"""

from __future__ import annotations

import ssl
from collections import deque
from contextlib import suppress
from threading import Condition
from typing import Any

from hiredis import pack_command
from redis import ConnectionPool, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from gateway.system.sockets import peek, send_all


class Connections:
    """Sends commands over kept connections, the one last used first. At most `most` are in use at once; who finds none
    free waits for one, no longer than the timeout.

    `pool` knows how connections are made."""

    def __init__(self, pool: ConnectionPool, most: int, timeout_seconds: float) -> None:
        self._pool = pool
        self._idle: deque[Any] = deque()
        self._places = Places(most)
        self._timeout_seconds = timeout_seconds

    def run(self, *command: str | int | bytes) -> Any:
        """The reply as it came. Raises RedisError or OSError."""
        if not self._places.take(self._timeout_seconds):
            raise RedisConnectionError("no connection is free")
        try:
            connection = self._taken()
            try:
                reply = exchanged(connection, command)
            except ResponseError:
                # A reply as any other, as far as the connection goes.
                self._idle.append(connection)
                raise
            except BaseException:
                # Its next reply could be the one to this command.
                connection.disconnect()
                raise
            self._idle.append(connection)
            return reply
        finally:
            self._places.give_back()

    def _taken(self) -> Any:
        """A connection for one command, connected when it is sent."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._pool.connection_class(**self._pool.connection_kwargs)
        if not is_quiet(connection):
            connection.disconnect()
        return connection

    def close(self) -> None:
        """Ends those that are not in use; the next command has another one."""
        # Several threads may do it at once.
        with suppress(IndexError):
            while True:
                self._idle.pop().disconnect()


class Places:
    """As a semaphore counts them; it only locks where somebody has to wait."""

    def __init__(self, most: int) -> None:
        self._free = deque(range(most))
        self._waiting = 0
        self._changed = Condition()

    def take(self, seconds: float) -> bool:
        """Whether there was one within that time."""
        return self._took() or self._wait(seconds)

    def give_back(self) -> None:
        self._free.append(0)
        # Who waits has said so before it looked for the last time.
        if self._waiting:
            with self._changed:
                self._changed.notify()

    def _took(self) -> bool:
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def _wait(self, seconds: float) -> bool:
        with self._changed:
            self._waiting += 1
            try:
                return self._changed.wait_for(self._took, seconds)
            finally:
                self._waiting -= 1


def exchanged(connection: Any, command: Any) -> Any:
    """The reply to a command; redis-py would look at each of its words before sending them."""
    try:
        if connection._sock is None:
            connection.connect()
        send_all(connection._sock, pack_command(command))
        return connection.read_response()
    except ValueError as error:
        # What redis-py makes of an error that is none of Redis's.
        raise InvalidResponse("the server's reply can't be read") from error


def is_quiet(connection: Any) -> bool:
    """Whether nothing has come on an idle connection. Nothing is due on it: if there is something, the server has
    closed it, or it is out of step."""
    try:
        if isinstance(connection._sock, ssl.SSLSocket):
            return not connection.can_read(0)
        return peek(connection._sock) is None
    except (RedisError, OSError):
        return False
