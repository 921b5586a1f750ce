"""Connections to one server, for the command that every request needs.

redis-py makes and reads them; its client above does much for each command that is of no use here (retries, callbacks,
observability, a pool made of a queue), and takes half as long again for it.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from threading import BoundedSemaphore
from typing import Any

from hiredis import pack_command
from redis import ConnectionPool, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError


class Connections:
    """Sends commands over kept connections, the one last used first. At most `most` are in use at once; who finds none
    free waits for one, no longer than the timeout.

    `pool` makes connections, and is not used for anything else."""

    def __init__(self, pool: ConnectionPool, most: int, timeout_seconds: float) -> None:
        self._pool = pool
        self._idle: deque[Any] = deque()
        self._free = BoundedSemaphore(most)
        self._timeout_seconds = timeout_seconds

    def run(self, *command: str | int | bytes) -> Any:
        """The reply as it came. Raises RedisError or OSError."""
        if not self._free.acquire(timeout=self._timeout_seconds):
            raise RedisConnectionError("no connection is free")
        try:
            connection = self._taken()
            try:
                # redis-py would look at each word first.
                words: Any = command
                connection.send_packed_command([pack_command(words)], check_health=False)
                reply = connection.read_response()
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
            self._free.release()

    def _taken(self) -> Any:
        """A connection for one command, connected when it is sent."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._pool.make_connection()
        if not is_quiet(connection):
            connection.disconnect()
        return connection

    def close(self) -> None:
        while self._idle:
            self._idle.pop().disconnect()


def is_quiet(connection: Any) -> bool:
    """Whether nothing has come on an idle connection. Nothing is due on it: if there is something, the server has
    closed it, or it is out of step."""
    sock = getattr(connection, "_sock", None)
    # The system's own below gevent's, which never waits. One with TLS takes no flags.
    own = None if isinstance(sock, ssl.SSLSocket) else getattr(sock, "_sock", None)
    try:
        if own is None:
            return not connection.can_read(0)
        own.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except (RedisError, OSError):
        return False
    return False
