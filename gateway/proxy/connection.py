"""One connection to an upstream: sends and receives bytes, with a deadline on every wait.

While the gateway waits for the upstream it also watches the client's connection: if the client leaves, the wait ends.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import time
from collections.abc import Iterable
from contextlib import suppress

from gevent.event import Event

from gateway.errors import ClientDisconnected, UpstreamTimeout
from gateway.proxy.connection_errors import (
    ConnectionAborted,
    ConnectionClosed,
    WorkerShuttingDown,
    connection_error,
)
from gateway.proxy.timeouts import Timeouts
from gateway.proxy.upload import Upload
from gateway.system.fair_scheduling import yield_if_due
from gateway.system.sockets import (
    receive,
    receive_arrived,
    send_all,
    system_poll,
    wait_for_events,
    wait_until_readable,
    wait_until_readable_or,
)

RECEIVE_BYTES = 128 * 1024
# How long a receive waits for the upstream alone, before the client's connection is watched too. Most responses come
# sooner, and watching two sockets costs more than reading one.
UNWATCHED_SECONDS = 0.1
# The poll event of a client that has left. A client that only shuts down its sending side counts as gone too, as with
# nginx. Unlike POLLIN, this event does not occur for unread bytes of the client, such as a pipelined request.
CLIENT_HAS_GONE = getattr(select, "POLLRDHUP", 0)


class UpstreamConnection:
    """A connected socket, and the bytes received from it that have not been read. Serves one request at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.buffer = bytearray()
        # Whether a send has failed by a reset. The system reports a reset only once: a later receive sees an orderly
        # end.
        self._is_reset = False
        self._poll: select.poll | None = None
        # True from a send until the first byte received after it.
        self._awaits_response = False
        self._read_timeout_seconds = 0.0
        self._deadline = math.inf
        # Set by the pool whenever the connection becomes idle, in monotonic seconds: since when it is idle, from when
        # it may be used, and until when.
        self.idle_since = self.quarantined_until = self.idle_until = 0.0
        self.client_socket: socket.socket | None = None
        self._upload: Upload | None = None
        # How long receives have waited while the request was still being sent. The client may have caused this wait, so
        # it counts against no deadline.
        self._upload_seconds = 0.0
        # When the current wait of a receive or of `finish_upload` began, in monotonic seconds; infinity without one.
        self._waiting_since = math.inf
        # Shutdown signal that may interrupt a wait; set only between two server-sent events.
        self.shutdown_signal: Event | None = None

    def begin_round_trip(self, client_socket: socket.socket | None, timeouts: Timeouts) -> None:
        """To be called before each request. `client_socket` is watched while waiting for the upstream."""
        self.client_socket = client_socket
        self._read_timeout_seconds, self._deadline = timeouts.read_seconds, timeouts.deadline
        self._upload_seconds = 0.0
        self.shutdown_signal = None

    def close(self) -> None:
        self.stop_upload()
        with suppress(OSError):
            self._socket.close()

    @property
    def was_idle(self) -> bool:
        """Whether the connection has served another request before."""
        return self.idle_since > 0

    def is_closed_by_upstream(self) -> bool:
        """Whether the upstream has closed this idle connection. Reads nothing, so any thread may call it."""
        event = select.POLLRDHUP if isinstance(self._socket, ssl.SSLSocket) else select.POLLIN
        return bool(system_poll(self._socket, event).poll(0))

    def is_stale(self) -> bool:
        """Whether this idle connection can't be used: the upstream has closed it, or has sent unrequested bytes."""
        if self.buffer:
            return True
        if not isinstance(self._socket, ssl.SSLSocket):
            # A non-blocking receive would raise for every healthy connection, which costs four times as much as a poll.
            self._poll = self._poll or system_poll(self._socket)
            return bool(self._poll.poll(0))
        try:
            # A poll would also report bytes of TLS itself, such as session tickets, after which the connection is still
            # usable.
            self._socket.settimeout(0)
            self._socket.recv(1)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        return True

    def send(self, data: bytes) -> None:
        """Sends all of `data`. Raises ConnectionClosed, UpstreamTimeout or Overloaded."""
        try:
            self._socket.settimeout(self._read_timeout_seconds)
            if self._upload is None:
                send_all(self._socket, data)
            else:
                self._send_while_receiving(data)
            self._awaits_response = True
        except TimeoutError as error:
            raise UpstreamTimeout("the service did not accept the request in time") from error
        except OSError as error:
            self._is_reset = isinstance(error, ConnectionResetError)
            raise connection_error(error) from error

    def _send_while_receiving(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            yield_if_due()
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                # If the client does not read the response, the upstream can't go on writing it, and may therefore not
                # read the request. The upstream is late only if the gateway is waiting for its response as well.
                if time.monotonic() - self._waiting_since >= self._read_timeout_seconds:
                    raise

    def start_upload(self, pieces: Iterable[bytes], *, is_chunked: bool) -> Upload:
        """Sends the request's body in the background."""
        self._upload = upload = Upload(self.send, pieces, is_chunked=is_chunked)
        return upload

    @property
    def is_uploading(self) -> bool:
        return self._upload is not None and self._upload.is_running

    def finish_upload(self) -> None:
        """Waits until the request has been sent, or until the upstream, which has responded, accepts no more of it."""
        if self._upload is not None:
            self._waiting_since = time.monotonic()
            self._upload.wait()

    def stop_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.close()

    def now(self) -> float:
        """Monotonic seconds, minus the time in which the upstream may have been waiting for the rest of the request."""
        return time.monotonic() - self._upload_seconds

    def read_deadline(self) -> float:
        """The time of `now` at which the next bytes must have arrived."""
        return self.now() + self._read_timeout_seconds

    def read_some(self, limit: int, deadline: float | None = None) -> bytes:
        """Returns between 1 and `limit` bytes as soon as any have arrived. `deadline` is `read_deadline` by default.
        Raises the errors of `receive`."""
        if not self.buffer:
            data = self.receive(self.read_deadline() if deadline is None else deadline)
            if len(data) <= limit:
                return data
            self.buffer += data
        data = bytes(self.buffer[:limit])
        del self.buffer[:limit]
        return data

    def receive(self, deadline: float) -> bytes:
        """Receives at least one byte from the socket. `deadline` is a time of `now`.

        Raises ConnectionClosed, UpstreamTimeout, ClientDisconnected, WorkerShuttingDown or Overloaded, or the error
        that has stopped the upload of the request's body."""
        if self._upload is not None:
            if arrived := self._receive_during_upload(self._upload):
                return arrived
            self._upload.raise_failure()
        deadline = min(deadline, self._deadline)
        remaining = deadline - self.now()
        if remaining <= 0:
            # The error is raised even if bytes have arrived: an upstream that never stops sending would otherwise never
            # time out.
            raise UpstreamTimeout("the service did not respond in time")
        client = self.client_socket
        try:
            self._socket.settimeout(max(0.001, min(UNWATCHED_SECONDS, remaining) if client else remaining))
            try:
                if self._awaits_response:
                    wait_until_readable(self._socket)
                    self._awaits_response = False
                data = receive(self._socket, RECEIVE_BYTES)
            except TimeoutError:
                if client is None:
                    raise
                self._wait_watching(client, deadline - self.now())
                self._socket.settimeout(max(0.001, deadline - self.now()))
                data = receive(self._socket, RECEIVE_BYTES)
        except TimeoutError as error:
            raise UpstreamTimeout("the service did not respond in time") from error
        except OSError as error:
            raise connection_error(error) from error
        return self._checked(data)

    def _checked(self, received: bytes) -> bytes:
        if not received:
            raise ConnectionAborted if self._is_reset else ConnectionClosed
        return received

    def _receive_during_upload(self, upload: Upload) -> bytes:
        """Waits without a deadline until bytes have arrived, and returns them. Returns no bytes once the request has
        been sent."""
        self._waiting_since = time.monotonic()
        try:
            while upload.is_running:
                # This must not change the socket's timeout, which the upload uses at the same time.
                arrived = receive_arrived(self._socket, RECEIVE_BYTES)
                if arrived is not None:
                    return self._checked(arrived)
                wait_until_readable_or(upload.greenlet, self._socket.fileno())
        except OSError as error:
            raise connection_error(error) from error
        finally:
            self._upload_seconds += time.monotonic() - self._waiting_since
            self._waiting_since = math.inf
        return b""

    def _wait_watching(self, client: socket.socket, seconds: float) -> None:
        """Waits until the upstream has sent something, and watches the client meanwhile. Raises ClientDisconnected,
        TimeoutError, WorkerShuttingDown."""
        own = self._socket.fileno()
        events = {own: select.POLLIN, client.fileno(): CLIENT_HAS_GONE}
        ready = wait_for_events(events, max(0, seconds), self.shutdown_signal)
        if own in ready:
            return
        if ready:
            raise ClientDisconnected
        raise WorkerShuttingDown if self.shutdown_signal is not None and self.shutdown_signal.is_set() else TimeoutError
