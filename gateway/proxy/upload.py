"""A request's body on its way to the service, while the response is already being waited for or read."""

from __future__ import annotations

import os

import gevent

from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.connection_ends import ConnectionEnded
from gateway.proxy.request_body import RequestBody
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION


class Upload:
    """Sends the body in a greenlet of its own, each piece as it comes. A service may answer before it has read all
    (RFC 9112 9.5), and the client is to see that at once.

    `descriptor` becomes readable when the upload has ended, whichever way."""

    def __init__(self, connection: UpstreamConnection, body: RequestBody) -> None:
        self.descriptor, self._end = RESOURCE_EXHAUSTION.with_spare(os.pipe)
        self.is_running = True
        # Whether the service has been sent all of the body.
        self.is_whole = False
        self._failure: BaseException | None = None
        self._greenlet = gevent.spawn(self._run, connection, body)

    def raise_failure(self) -> None:
        """Raises what has kept the body from being sent, unless that was the service: what it answered before it closed
        the connection is worth more."""
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Until it has ended."""
        self._greenlet.join()

    def close(self) -> None:
        """Stops it, if it is running, and gives back what it holds."""
        self._greenlet.kill()
        # Also where it was stopped before it ran.
        self._has_ended()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _run(self, connection: UpstreamConnection, body: RequestBody) -> None:
        try:
            for piece in body:
                connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if body.length is None else piece)
            if body.length is None:
                connection.send(b"0\r\n\r\n")
            self.is_whole = True
        except ConnectionEnded:
            pass
        except Exception as error:
            self._failure = error
        finally:
            self._has_ended()

    def _has_ended(self) -> None:
        if self.is_running:
            self.is_running = False
            os.close(self._end)
