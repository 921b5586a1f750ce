"""One connection to a server that all requests of a gevent worker share.

Commands of requests that run at the same time go out together, and their replies come in together: most of what a
command costs is the system's calls to send it and to read its reply. Nobody waits for another's reply any longer than
the server itself lets them.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from gevent import get_hub
from gevent.event import AsyncResult
from gevent.hub import Waiter
from hiredis import Reader, pack_command
from redis import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

RECEIVE_BYTES = 64 * 1024
READABLE, WRITABLE = 1, 2
INCOMPLETE = object()


class MultiplexedConnection:
    """`pool` knows how connections are made. To be used by greenlets of one thread."""

    def __init__(self, pool: ConnectionPool, timeout_seconds: float) -> None:
        self._pool = pool
        self._timeout_seconds = timeout_seconds
        self._link: Link | None = None
        # Of those who need a connection at the same time one makes it, and all have what becomes of that.
        self._attempt: AsyncResult | None = None

    def run(self, *command: str | int | bytes) -> Any:
        """The reply as it came. Raises RedisError or OSError."""
        link = self._link
        if link is None or link.has_ended:
            link = self._connected()
        words: Any = command
        reply = link.ask(pack_command(words)).get()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        """Ends the connection; the next command has another one."""
        if self._link is not None:
            self._link.end("the connection is not used any more")

    def _connected(self) -> Link:
        attempt = self._attempt
        if attempt is not None:
            link: Link = attempt.get()
            return link
        attempt = self._attempt = AsyncResult()
        try:
            connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
            connection.connect()
            self._link = Link(connection, self._timeout_seconds)
        except (RedisError, OSError) as error:
            attempt.set_exception(error)
            raise
        except Exception as error:
            # What it said when it was greeted can't be read.
            failure = RedisConnectionError("the server can't be talked to")
            attempt.set_exception(failure)
            raise failure from error
        except BaseException:
            attempt.set_exception(RedisConnectionError())
            raise
        else:
            attempt.set(self._link)
            return self._link
        finally:
            self._attempt = None


class Link:
    """A connection that is up. Whoever asks gets a waiter: its reply is handed to it in its turn."""

    def __init__(self, connection: Any, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        # The system's own below gevent's, which never waits.
        self._socket = connection._sock._sock
        # redis-py knows which error is which.
        self._replies = Reader(InvalidResponse, connection._parser.parse_error, notEnoughData=INCOMPLETE)
        # What waits to be sent, and who for; then whose replies are awaited, since when.
        self._unsent: list[bytes] = []
        self._unsent_for: list[Waiter] = []
        self._waiting: deque[tuple[Waiter, float]] = deque()
        self.has_ended = False
        self._loop = get_hub().loop
        self._readable = self._loop.io(self._socket.fileno(), READABLE)
        self._writable = self._loop.io(self._socket.fileno(), WRITABLE)
        self._timer = self._loop.timer(timeout_seconds)
        # Also while nobody waits: that the server has closed it is known before somebody asks.
        self._readable.start(self._receive)

    def ask(self, command: bytes) -> Waiter:
        """Its `get` gives the reply, which may be an error. Raises RedisError where there is none, or none in time."""
        if self.has_ended:
            # While its maker told those who waited for it.
            raise RedisConnectionError("the connection has ended")
        if not self._unsent:
            self._loop.run_callback(self._send)
        waiter = Waiter()
        self._unsent.append(command)
        self._unsent_for.append(waiter)
        return waiter

    def end(self, why: str, kind: type[RedisError] = RedisConnectionError) -> None:
        """Closes it. Those who wait hear of it."""
        if self.has_ended:
            return
        self.has_ended = True
        for watcher in (self._readable, self._writable, self._timer):
            watcher.stop()
            watcher.close()
        self._connection.disconnect()
        for waiter in [*(waiter for waiter, _ in self._waiting), *self._unsent_for]:
            self._loop.run_callback(waiter.throw, kind(why))
        self._waiting.clear()
        self._unsent_for.clear()

    # What follows runs in gevent's hub, and must not wait.

    def _send(self) -> None:
        if self.has_ended:
            return
        # Their time runs from now on: before, it was this worker that had others to serve.
        now = time.monotonic()
        self._waiting.extend((waiter, now) for waiter in self._unsent_for)
        self._unsent_for.clear()
        if not self._timer.active:
            self._timer.start(self._check_time)
        data = b"".join(self._unsent)
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.end("the connection is broken")
            return
        self._writable.stop()
        self._unsent = [data[sent:]] if sent < len(data) else []
        if self._unsent:
            self._writable.start(self._send)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
            self._replies.feed(data)
        except BlockingIOError:
            return
        except (OSError, MemoryError):
            data = b""
        if not data:
            self.end("the server closed the connection")
            return
        while not self.has_ended:
            try:
                reply = self._replies.gets()
            except Exception:
                # Also what redis-py makes of an error that is none: without an end, each reply from now on would be
                # the one before's.
                self.end("the server's reply can't be read")
                return
            if reply is INCOMPLETE:
                return
            if not self._waiting:
                self.end("the server sent what nobody asked for")
                return
            waiter, _ = self._waiting.popleft()
            waiter.switch(reply)

    def _check_time(self) -> None:
        """Whether the one who has waited longest has waited too long. If so, nothing more will come for the others."""
        self._timer.stop()
        if self._seconds_left() <= 0:
            # What came while this worker was held up came in time.
            self._receive()
        if self.has_ended or not self._waiting:
            return
        left = self._seconds_left()
        if left <= 0:
            self.end("the server does not answer in time", RedisTimeoutError)
            return
        self._timer.close()
        self._timer = self._loop.timer(left)
        self._timer.start(self._check_time)

    def _seconds_left(self) -> float:
        if not self._waiting:
            return self._timeout_seconds
        return self._waiting[0][1] + self._timeout_seconds - time.monotonic()
