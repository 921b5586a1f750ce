"""The sockets that gunicorn's master listens on, and how a reload changes them.

gunicorn's own reload closes all sockets before it binds the new addresses. It would fail to bind any address that old
workers still listen on, and exit if an address is in use.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

from gunicorn.sock import TCP6Socket, TCPSocket, UnixSocket, close_sockets
from gunicorn.util import parse_address

from gateway.errors import ConfigurationError

log = logging.getLogger("gunicorn.error")


class Listeners:
    """The master's listening sockets. `server` is gunicorn's arbiter. `addresses` are the configured addresses at the
    start."""

    def __init__(self, server: Any, addresses: Sequence[str]) -> None:
        self._server = server
        self.addresses = tuple(server.cfg.bind)
        # False with gunicorn's option --bind, which overrides the configuration, also on reloads.
        self._is_configured = self.addresses == tuple(addresses)
        self._prepared: tuple[tuple[str, ...], list[Any]] | None = None

    def prepare(self, addresses: Sequence[str]) -> None:
        """Opens sockets for new addresses, which `apply` then puts in place. If one can't be opened, changes nothing
        and raises ConfigurationError."""
        if not self._is_configured or tuple(addresses) == self.addresses:
            return
        if self._server.systemd or self._server.cfg.reuse_port:
            why = "systemd made the sockets" if self._server.systemd else "each worker has sockets of its own"
            raise ConfigurationError([f"server.bind: can't be changed by a reload, as {why}"])
        listeners: list[Any] = []
        opened: list[Any] = []
        try:
            for address in addresses:
                if (listener := self._find_listener(parse_address(address))) is None:
                    listener = self._open(address)
                    opened.append(listener)
                listeners.append(listener)
        except ConfigurationError:
            close_sockets(opened)
            raise
        self._prepared = (tuple(addresses), listeners)

    def apply(self) -> None:
        """Puts the prepared sockets in place: workers that are started from now on use them. Closes the sockets that
        the master no longer needs; old workers accept connections from these until they end."""
        if self._prepared is None:
            return
        (self.addresses, listeners), self._prepared = self._prepared, None
        removed = [one for one in self._server.LISTENERS if one not in listeners]
        self._server.LISTENERS = listeners
        # The file of a unix socket is removed only if no other gunicorn, started by USR2, may listen on it.
        close_sockets(removed, unlink=self._server.reexec_pid == self._server.master_pid == 0)
        log.info("Listening at: %s", ",".join(map(str, listeners)))

    def _find_listener(self, address: Any) -> Any:
        for listener in self._server.LISTENERS:
            own = listener.cfg_addr
            # The address of an inherited IPv6 socket has two more elements, such as its scope.
            if (own[:2] if isinstance(own, tuple) else own) == address:
                return listener
        return None

    def _open(self, text: str) -> Any:
        try:
            return open_listener(parse_address(text), self._server.cfg)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.errno else error
            raise ConfigurationError([f"server.bind: can't listen on {text}: {reason}"]) from error


def open_listener(address: Any, config: Any) -> Any:
    """Opens a gunicorn socket that listens on the address. Raises OSError or ValueError."""
    if isinstance(address, int):
        raise OSError("a file descriptor can only be used at the start")
    if isinstance(address, tuple):
        return (TCP6Socket if ":" in address[0] else TCPSocket)(address, config, log)
    if is_listening(address):
        raise OSError("another process listens on it")
    return UnixSocket(address, config, log)


def is_listening(path: str) -> bool:
    """Whether a process listens on the unix socket. gunicorn would replace the socket's file even then."""
    if not os.path.exists(path):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(path) == 0
