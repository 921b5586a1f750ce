"""Sends a request's body to the upstream while the response is already awaited or read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import gevent

from gateway.proxy.connection_errors import ConnectionClosed


class Upload:
    """Sends the pieces of a body in a greenlet of its own, each as it arrives: a service may respond before it has read
    the whole request (RFC 9112 9.5), and the client must receive that response at once."""

    def __init__(self, send: Callable[[bytes], None], pieces: Iterable[bytes], *, is_chunked: bool) -> None:
        # Whether the whole body has been sent.
        self.is_complete = False
        self._failure: BaseException | None = None
        self.greenlet = gevent.spawn(self._run, send, pieces, is_chunked)

    @property
    def is_running(self) -> bool:
        return not self.greenlet.ready()

    def raise_failure(self) -> None:
        """Raises the error that stopped the upload. Raises nothing if the upstream closed the connection: the response
        that it sent before closing has still to be read."""
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Waits until the upload has ended."""
        self.greenlet.join()

    def close(self) -> None:
        """Stops the upload if it is running."""
        self.greenlet.kill()

    def _run(self, send: Callable[[bytes], None], pieces: Iterable[bytes], is_chunked: bool) -> None:
        try:
            for piece in pieces:
                send(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            if is_chunked:
                send(b"0\r\n\r\n")
            self.is_complete = True
        except ConnectionClosed:
            pass
        except Exception as error:
            self._failure = error
