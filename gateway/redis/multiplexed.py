"""One connection to a server, shared by all requests of a gevent worker.

Commands of concurrent requests are sent together, and their replies are received together: most of the cost of a
command is in the system calls that send it and receive its reply. A request waits for the replies to earlier commands,
but Redis would also execute commands from separate connections one after the other.

redis-py makes the connections; hiredis encodes the commands and parses the replies.
"""

from __future__ import annotations

import ssl
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
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class MultiplexedClient:
    """Runs commands on a shared connection, and connects again after a failure. For the greenlets of one thread.

    Of `pool`, only the class and the arguments of its connections are used."""

    def __init__(self, pool: ConnectionPool, timeout_seconds: float) -> None:
        self._pool = pool
        self._timeout_seconds = timeout_seconds
        self._connection: MultiplexedConnection | None = None
        # The connection attempt of one request. Other requests that need a connection meanwhile wait for its result.
        self._attempt: AsyncResult | None = None

    def run(self, *command: str | int | bytes) -> Any:
        """Runs a command and returns the reply, as Redis sent it. Raises RedisError or OSError."""
        connection = self._connection
        if connection is None or connection.is_closed:
            connection = self._connect()
        words: Any = command
        reply = connection.send(pack_command(words)).get()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        """Closes the connection; the next command opens a new one."""
        if self._connection is not None:
            self._connection.close("the connection was closed by the gateway")

    def _connect(self) -> MultiplexedConnection:
        if self._attempt is not None:
            shared: MultiplexedConnection = self._attempt.get()
            return shared
        attempt = self._attempt = AsyncResult()
        try:
            connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
            connection.connect()
            self._connection = MultiplexedConnection(connection, self._timeout_seconds)
        except (RedisError, OSError) as error:
            attempt.set_exception(error)
            raise
        except Exception as error:
            # redis-py could not parse the server's replies to the first commands.
            failure = RedisConnectionError("the server does not speak Redis' protocol")
            attempt.set_exception(failure)
            raise failure from error
        except BaseException:
            attempt.set_exception(RedisConnectionError())
            raise
        else:
            attempt.set(self._connection)
            return self._connection
        finally:
            self._attempt = None


class MultiplexedConnection:
    """A connection that is established. Replies arrive in the order of the commands."""

    def __init__(self, connection: Any, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        # The calls of gevent's sockets wait. Those of the system's socket below, and of its TLS object, never wait.
        self._socket = connection._sock._sock
        is_tls = isinstance(connection._sock, ssl.SSLSocket)
        self._send_bytes = connection._sock._sslobj.write if is_tls else self._socket.send
        self._receive_bytes = connection._sock._sslobj.read if is_tls else self._socket.recv
        # `parse_error` makes redis-py's exception for an error reply; there is a class for each kind of error.
        self._replies = Reader(InvalidResponse, connection._parser.parse_error, notEnoughData=INCOMPLETE)
        # Commands to be sent, and their waiters; then the waiters of commands that have been sent, and when.
        self._unsent: list[bytes] = []
        self._unsent_waiters: list[Waiter] = []
        self._waiting: deque[tuple[Waiter, float]] = deque()
        self.is_closed = False
        self._loop = get_hub().loop
        self._readable = self._loop.io(self._socket.fileno(), READABLE)
        self._writable = self._loop.io(self._socket.fileno(), WRITABLE)
        self._timer = self._loop.timer(timeout_seconds)
        # This watcher is active even while no reply is due, so that a close by the server is noticed before the next
        # command.
        self._readable.start(self._receive)

    def send(self, command: bytes) -> Waiter:
        """Queues a command. Returns a waiter, whose `get` returns the reply (an exception for an error reply), or
        raises RedisError if no reply arrives in time.

        Raises RedisError if the connection is closed."""
        if self.is_closed:
            # The connection was closed after its creation, before the request that had waited for it continued.
            raise RedisConnectionError("the connection is closed")
        if not self._unsent:
            self._loop.run_callback(self._send)
        waiter = Waiter()
        self._unsent.append(command)
        self._unsent_waiters.append(waiter)
        return waiter

    def close(self, reason: str, kind: type[RedisError] = RedisConnectionError) -> None:
        """Closes the connection. All waiters get an exception of the class `kind` with this reason."""
        if self.is_closed:
            return
        self.is_closed = True
        for watcher in (self._readable, self._writable, self._timer):
            watcher.stop()
            watcher.close()
        self._connection.disconnect()
        for waiter in [*(waiter for waiter, _ in self._waiting), *self._unsent_waiters]:
            self._loop.run_callback(waiter.throw, kind(reason))
        self._waiting.clear()
        self._unsent_waiters.clear()

    # The following methods run in gevent's hub and must not wait.

    def _send(self) -> None:
        if self.is_closed:
            return
        # The timeouts of commands start when they are sent, as the worker may have been busy before.
        now = time.monotonic()
        self._waiting.extend((waiter, now) for waiter in self._unsent_waiters)
        self._unsent_waiters.clear()
        if not self._timer.active:
            self._timer.start(self._check_timeout)
        data = b"".join(self._unsent)
        try:
            sent = self._send_bytes(data)
        except WOULD_BLOCK:
            sent = 0
        except OSError:
            self.close("the connection is broken")
            return
        self._writable.stop()
        self._unsent = [data[sent:]] if sent < len(data) else []
        if self._unsent:
            self._writable.start(self._send)

    def _receive(self) -> None:
        try:
            data = self._receive_bytes(RECEIVE_BYTES)
            self._replies.feed(data)
        except WOULD_BLOCK:
            return
        except (OSError, MemoryError):
            data = b""
        if not data:
            self.close("the server closed the connection")
            return
        while not self.is_closed:
            try:
                reply = self._replies.gets()
            except Exception:
                # `gets` also raises ValueError, for an error reply that redis-py can't parse. If the connection stayed
                # open, every later reply would go to the wrong request.
                self.close("the server's reply can't be parsed")
                return
            if reply is INCOMPLETE:
                return
            if not self._waiting:
                self.close("the server sent a reply without a command")
                return
            waiter, _ = self._waiting.popleft()
            waiter.switch(reply)

    def _check_timeout(self) -> None:
        """Closes the connection if the reply for the oldest waiter is late. The later replies can only follow this one,
        so they would be late as well."""
        self._timer.stop()
        if self._seconds_left() <= 0:
            # While the worker was busy, the reply may have arrived in time.
            self._receive()
        if self.is_closed or not self._waiting:
            return
        left = self._seconds_left()
        if left <= 0:
            self.close("the server does not reply in time", RedisTimeoutError)
            return
        self._timer.close()
        self._timer = self._loop.timer(left)
        self._timer.start(self._check_timeout)

    def _seconds_left(self) -> float:
        if not self._waiting:
            return self._timeout_seconds
        return self._waiting[0][1] + self._timeout_seconds - time.monotonic()
