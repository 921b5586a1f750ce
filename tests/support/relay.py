"""A relay between a client and a server that can change what the server sends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

from tests.support.sockets import end_all


class Relay:
    """Listens on a free port of 127.0.0.1. For each piece of data from the server, `reply` returns the pieces to send
    to the client."""

    def __init__(self, server_port: int) -> None:
        self.reply: Callable[[bytes], Iterable[bytes]] = lambda data: [data]
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.taken = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Closes all connections."""
        ended, self._open = self._open, []
        end_all(ended)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.taken += 1
                server = socket.create_connection(("127.0.0.1", self._server_port))
                for sock in (client, server):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [client, server]
                for source, target, is_reply in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass_on, args=(source, target, is_reply), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_reply: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                for piece in self.reply(data) if is_reply else [data]:
                    target.sendall(piece)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
