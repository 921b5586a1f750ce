"""A small server that fails in a given way: `python -m tests.support.faulty_server PORT MODE`.

Each line on standard input sets a new mode, and a line on standard output confirms it. The server ends when its
standard input is closed. It uses only the standard library, so that it starts quickly.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader

BODY = b'{"ok":true}'
DRIBBLE_SECONDS = 0.01
GARBAGE = random.Random(1).randbytes(100_000)  # noqa: S311 - nothing secret
ABORT = struct.pack("ii", 1, 0)


def head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length


def reset(connection: socket.socket) -> bool:
    """Sends a reset instead of an orderly close."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    return False


def good(connection: socket.socket, wanted: int) -> bool:
    connection.sendall(head(wanted) + bytes(wanted) if wanted else head(len(BODY)) + BODY)
    return True


def reset_before_head(connection: socket.socket, _: int) -> bool:
    return reset(connection)


def reset_after_head(connection: socket.socket, _: int) -> bool:
    connection.sendall(head(1000))
    return reset(connection)


def reset_in_body(connection: socket.socket, _: int) -> bool:
    connection.sendall(head(1000) + bytes(500))
    return reset(connection)


def hang(connection: socket.socket, _: int) -> bool:
    """Waits until the other side closes the connection."""
    connection.recv(1)
    return False


def hang_after_head(connection: socket.socket, _: int) -> bool:
    connection.sendall(head(1000))
    return hang(connection, 0)


def dribble_head(connection: socket.socket, _: int) -> bool:
    """Sends a head without end, one byte at a time with short pauses."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        connection.sendall(b"x")
        time.sleep(DRIBBLE_SECONDS)


def dribble_body(connection: socket.socket, _: int) -> bool:
    """Sends a valid response whose body arrives byte by byte."""
    connection.sendall(head(len(BODY)))
    for byte in BODY:
        time.sleep(DRIBBLE_SECONDS)
        connection.sendall(bytes([byte]))
    return True


def garbage(connection: socket.socket, _: int) -> bool:
    connection.sendall(GARBAGE)
    return False


# The response of each mode. A function gets the connection after it has read a request, and the requested number of
# bytes. It returns True to keep the connection.
ANSWERS: dict[str, Callable[[socket.socket, int], bool]] = {
    answer.__name__: answer
    for answer in (
        good,
        reset_before_head,
        reset_after_head,
        reset_in_body,
        hang,
        hang_after_head,
        dribble_head,
        dribble_body,
        garbage,
    )
}
# In this mode nothing listens on the port.
REFUSE = "refuse"


class Server:
    def __init__(self, port: int) -> None:
        self._port = port
        self._mode = REFUSE
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()

    def become(self, mode: str) -> None:
        assert mode == REFUSE or mode in ANSWERS, mode
        self._mode = mode
        if mode == REFUSE:
            self._stop_listening()
        elif self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self._port), backlog=512)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            # Wakes up accept(), which close() alone does not.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with suppress(OSError, ValueError), connection, connection.makefile("rb") as stream:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while request_line := stream.readline():
                    skip_rest(stream)
                    wanted = int(request_line.split()[1].partition(b"bytes=")[2] or b"0")
                    if self._mode == REFUSE or not ANSWERS[self._mode](connection, wanted):
                        return
        finally:
            self._open.discard(connection)


def skip_rest(stream: BufferedReader) -> None:
    """Reads the rest of a request's head, and its body if it has a Content-Length."""
    length = 0
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while length:
        piece = stream.read(min(length, 1 << 16))
        if not piece:
            raise ConnectionResetError
        length -= len(piece)


def main() -> None:
    server = Server(int(sys.argv[1]))
    server.become(sys.argv[2])
    print(flush=True)
    for line in sys.stdin:
        server.become(line.strip())
        print(flush=True)


if __name__ == "__main__":
    main()
