"""One connection to an upstream: bytes out, a strictly read answer in, with a deadline on every wait."""

from __future__ import annotations

import math
import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

from gateway.errors import UpstreamProtocolError, UpstreamTimeout
from gateway.proxy.client_watch import wait_watching
from gateway.proxy.connection_ends import ConnectionBroken, ConnectionEnded, cause_of
from gateway.proxy.http1 import MAX_HEAD_BYTES, ResponseHead, read_response_head
from gateway.proxy.sending import Sending
from gateway.system.shutdown import StreamEnd
from gateway.system.sockets import receive, receive_arrived, send_all, system_poll, wait_for_answer, wait_for_any
from gateway.system.time_slice import yield_if_due

RECEIVE_BYTES = 128 * 1024
# Of the head of an answer and the interim ones before it. A service that works for long may send one each few seconds.
MAX_INTERIM_ANSWERS = 32
START_OF_ANSWER, END_OF_HEAD = b"HTTP/1.", b"\r\n\r\n"
# How long a plain receive waits before the client's connection is watched too: most answers come sooner, and watching
# two sockets costs more than reading one.
UNWATCHED_SECONDS = 0.1
SendInterim = Callable[[ResponseHead], None]


class UpstreamConnection:
    """A connected socket and what has been received but not yet read. Used by one request at a time."""

    def __init__(self, sock: socket.socket, read_timeout_seconds: float) -> None:
        self._socket = sock
        self._buffer = bytearray()
        # Seen by whoever sent; whoever reads would see an orderly end, as the system tells of a reset only once.
        self._is_reset = False
        self._poll: select.poll | None = None
        # Whether what was sent last has been answered by nothing yet.
        self._has_asked = False
        self.read_timeout_seconds = read_timeout_seconds
        # When all of the exchange has to be over, in monotonic seconds.
        self.deadline = math.inf
        # Monotonic seconds, set whenever the connection becomes idle: since when, not to be used before, and until when
        # it may be used.
        self.idle_since = self.rests_until = self.idle_until = 0.0
        self.client_watch: socket.socket | None = None
        self.sending: Sending | None = None
        self._sending_seconds = 0.0
        # Monotonic seconds, while that goes on: since when anything that comes is waited for.
        self._waiting_since = math.inf
        # Whose word ends a wait, where what is waited for may be left out.
        self.end_watch: StreamEnd | None = None

    def close(self) -> None:
        self.end_sending()
        with suppress(OSError):
            self._socket.close()

    def end_sending(self) -> None:
        """Stops sending the request, if that is still going on."""
        sending, self.sending = self.sending, None
        if sending is not None:
            sending.close()

    @property
    def was_idle(self) -> bool:
        """Whether it has served another request before."""
        return self.idle_since > 0

    def begin_exchange(
        self, client: socket.socket | None, read_timeout_seconds: float, send_interim: SendInterim | None
    ) -> None:
        """To be called before each request. `client` is the client's socket, which is watched while waiting;
        `send_interim` is called with the head of each interim answer."""
        self.client_watch = client
        self._send_interim = send_interim
        # All heads that answer one request share a budget, so that a service can't go on with them for ever.
        self._head_bytes_left, self._interim_left = MAX_HEAD_BYTES, MAX_INTERIM_ANSWERS
        # False once a head announced content that can't be there.
        self._is_in_step = True
        self.end_watch = None
        # The last request may have been of a route with another limit.
        self.read_timeout_seconds = read_timeout_seconds
        # Whether any byte of an answer has come, and whether a head has been read.
        self.has_answered = self.has_read_head = False
        self._sending_seconds = 0.0

    def end_exchange(self) -> None:
        """Forgets the client, whose request would else be held for as long as the connection is idle."""
        self.client_watch = self._send_interim = None

    def has_ended(self) -> bool:
        """Whether an idle connection has been closed by the upstream. Reads nothing, so that any thread may ask."""
        event = select.POLLRDHUP if isinstance(self._socket, ssl.SSLSocket) else select.POLLIN
        return bool(system_poll(self._socket, event).poll(0))

    def is_stale(self) -> bool:
        """Whether an idle connection has been closed by the upstream, or has bytes on it that nobody asked for."""
        if self._buffer:
            return True
        if not isinstance(self._socket, ssl.SSLSocket):
            # To peek would fail each time that all is well, and failing costs four times as much.
            self._poll = self._poll or system_poll(self._socket)
            return bool(self._poll.poll(0))
        try:
            # What has come may be for TLS alone, as its tickets are.
            self._socket.settimeout(0)
            self._socket.recv(1)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        return True

    def send(self, data: bytes) -> None:
        """Sends all of `data`. Raises ConnectionEnded or UpstreamTimeout."""
        try:
            self._socket.settimeout(self.read_timeout_seconds)
            if self.sending is None:
                send_all(self._socket, data)
            else:
                self._send_while_reading(data)
            self._has_asked = True
        except TimeoutError as error:
            raise UpstreamTimeout("the service did not take the request in time") from error
        except OSError as error:
            self._is_reset = isinstance(error, ConnectionResetError)
            raise cause_of(error) from error

    def _send_while_reading(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            yield_if_due()
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                # An upstream whose answer nobody takes, as the client does not, can't go on reading. It is late only
                # where it has been waited for in both directions.
                if time.monotonic() - self._waiting_since >= self.read_timeout_seconds:
                    raise

    def read_head(self, method: str, timeout_seconds: float) -> ResponseHead:
        """The final answer's head, whole in that time; interim ones (1xx, RFC 9110 15.2) before it go to the client.

        Raises ConnectionEnded, UpstreamTimeout, UpstreamProtocolError, ClientDisconnected."""
        deadline = self._now() + timeout_seconds
        while True:
            head = self._next_head(method, deadline)
            if head.status >= 200:
                return head if self._is_in_step else head._replace(reusable=False)
            sent_at = time.monotonic()
            self._pass_on(head)
            # A client that is slow to take it takes nothing of the service's time.
            deadline += time.monotonic() - sent_at

    def _next_head(self, method: str, deadline: float) -> ResponseHead:
        data = self._read_head(deadline)
        self._head_bytes_left -= len(data)
        head = read_response_head(data, method)
        self.has_read_head = True
        self._is_in_step = self._is_in_step and head.reusable
        return head

    def _read_head(self, deadline: float) -> bytes:
        if not self._buffer:
            data = self._receive(deadline)
            # Nearly all heads come in one piece.
            end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
            if data.startswith(START_OF_ANSWER) and len(END_OF_HEAD) <= end <= self._head_bytes_left:
                self.has_answered = True
                self._buffer += data[end:]
                return data[:end]
            self._buffer += data
        self._await_answer(deadline)
        return self._read_through_head(deadline)

    def _pass_on(self, head: ResponseHead) -> None:
        """Sends an interim answer to the client. Raises UpstreamProtocolError, ClientDisconnected."""
        if head.status == 101:
            raise UpstreamProtocolError("the service switched protocols without being asked")
        self._interim_left -= 1
        if self._interim_left < 0:
            raise UpstreamProtocolError("there is no end of interim answers")
        if self._send_interim is not None:
            self._send_interim(head)

    def _await_answer(self, deadline: float) -> None:
        """Waits for the beginning of a head. Anything else on a connection that was idle belongs to an earlier answer
        (RFC 9112 9.2)."""
        while not self._buffer.startswith(START_OF_ANSWER):
            if self._buffer and not START_OF_ANSWER.startswith(bytes(self._buffer[: len(START_OF_ANSWER)])):
                if self.was_idle and not self.has_answered:
                    raise ConnectionEnded
                raise UpstreamProtocolError("the status line is malformed")
            self.has_answered = bool(self._buffer)
            self._buffer += self._receive(deadline)
        self.has_answered = True

    def read_some(self, limit: int, deadline: float | None = None) -> bytes:
        """Between 1 and `limit` bytes, as they come, until the deadline (by default `read_deadline`). Raises
        ConnectionEnded, UpstreamTimeout, ClientDisconnected, WorkerEnding, and what stopped the request's own body."""
        if not self._buffer:
            data = self._receive(self.read_deadline() if deadline is None else deadline)
            if len(data) <= limit:
                return data
            self._buffer += data
        data = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        return data

    def read_deadline(self) -> float:
        """When the next bytes have to have come, on this connection's own clock."""
        return self._now() + self.read_timeout_seconds

    def _now(self) -> float:
        """Monotonic seconds, less those in which the upstream may have been waiting for the rest of the request."""
        return time.monotonic() - self._sending_seconds

    @property
    def is_sending(self) -> bool:
        """Whether the request is still on its way."""
        return self.sending is not None and self.sending.is_running

    def finish_sending(self) -> None:
        """Waits until the request has been sent, or the upstream, which has answered, takes no more of it."""
        if self.sending is not None:
            self._waiting_since = time.monotonic()
            self.sending.wait()

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def _read_through_head(self, deadline: float) -> bytes:
        searched = 0
        while (found := self._buffer.find(END_OF_HEAD, searched, self._head_bytes_left)) < 0:
            if len(self._buffer) >= self._head_bytes_left:
                raise UpstreamProtocolError("the head of the answer is too large")
            searched = max(0, len(self._buffer) - len(END_OF_HEAD) + 1)
            self._buffer += self._receive(deadline)
        data = bytes(self._buffer[: found + len(END_OF_HEAD)])
        del self._buffer[: len(data)]
        return data

    def _receive(self, deadline: float) -> bytes:
        """What has arrived, waiting for it until `deadline`, and no longer than the client does."""
        if self.sending is not None:
            if arrived := self._receive_while_sending(self.sending):
                return arrived
            self.sending.raise_failure()
        deadline = min(deadline, self.deadline)
        remaining = deadline - self._now()
        if remaining <= 0:
            # Also where more has come already: a service that never stops sending would never run out of time.
            raise UpstreamTimeout("the service did not answer in time")
        watched = self.client_watch
        try:
            self._socket.settimeout(max(0.001, min(UNWATCHED_SECONDS, remaining) if watched else remaining))
            try:
                if self._has_asked:
                    wait_for_answer(self._socket)
                    self._has_asked = False
                data = receive(self._socket, RECEIVE_BYTES)
            except TimeoutError:
                if watched is None:
                    raise
                wait_watching(self._socket, watched, self.end_watch, deadline - self._now())
                self._socket.settimeout(max(0.001, deadline - self._now()))
                data = receive(self._socket, RECEIVE_BYTES)
        except TimeoutError as error:
            raise UpstreamTimeout("the service did not answer in time") from error
        except OSError as error:
            raise cause_of(error) from error
        return self._checked(data)

    def _checked(self, received: bytes) -> bytes:
        if not received:
            raise ConnectionBroken if self._is_reset else ConnectionEnded
        return received

    def _receive_while_sending(self, sending: Sending) -> bytes:
        """What has arrived, waiting for it until the upstream has been sent all of the request; none then. As long as
        that takes, it is not the upstream that is late."""
        self._waiting_since, own = time.monotonic(), self._socket.fileno()
        try:
            while sending.is_running:
                # Not with a timeout, as the same socket has that of what is being sent.
                arrived = receive_arrived(self._socket, RECEIVE_BYTES)
                if arrived is not None:
                    return self._checked(arrived)
                wait_for_any({own: select.POLLIN, sending.descriptor: select.POLLIN})
        except OSError as error:
            raise cause_of(error) from error
        finally:
            self._sending_seconds += time.monotonic() - self._waiting_since
            self._waiting_since = math.inf
        return b""
