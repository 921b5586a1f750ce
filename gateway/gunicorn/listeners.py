"""The sockets that gunicorn's master listens on, and how a reload changes them.

gunicorn itself closes all of them and binds the new addresses afterwards. It ends where one is taken, and the workers
that have not ended yet still listen on the old ones: no address could be kept or added.
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
    """`server` is gunicorn's arbiter, `addresses` what its configuration file gave it at the start."""

    def __init__(self, server: Any, addresses: Sequence[str]) -> None:
        self._server = server
        self.addresses = tuple(server.cfg.bind)
        # Otherwise gunicorn's --bind overrides the configuration, on each reload as at the start.
        self._is_configured = self.addresses == tuple(addresses)
        self._prepared: tuple[tuple[str, ...], list[Any]] | None = None

    def prepare(self, addresses: Sequence[str]) -> None:
        """Opens the sockets of those addresses that are new, for `apply` to be put in place. Raises
        ConfigurationError, and changes nothing, where one can't be listened on."""
        if not self._is_configured or tuple(addresses) == self.addresses:
            return
        if self._server.systemd or self._server.cfg.reuse_port:
            why = "systemd made the sockets" if self._server.systemd else "each worker has sockets of its own"
            raise ConfigurationError([f"server.bind: can't be changed by a reload, as {why}"])
        listeners: list[Any] = []
        opened: list[Any] = []
        try:
            for address in addresses:
                if (listener := self._listener_of(parse_address(address))) is None:
                    listener = self._opened(address)
                    opened.append(listener)
                listeners.append(listener)
        except ConfigurationError:
            close_sockets(opened)
            raise
        self._prepared = (tuple(addresses), listeners)

    def apply(self) -> None:
        """Has workers that are started from now on listen on what was prepared. Those sockets that they do not need
        are closed; old workers take connections from them until they end."""
        if self._prepared is None:
            return
        (self.addresses, listeners), self._prepared = self._prepared, None
        gone = [one for one in self._server.LISTENERS if one not in listeners]
        self._server.LISTENERS = listeners
        # Another gunicorn that was started by USR2 may listen on the same path.
        close_sockets(gone, unlink=self._server.reexec_pid == self._server.master_pid == 0)
        log.info("Listening at: %s", ",".join(map(str, listeners)))

    def _listener_of(self, address: Any) -> Any:
        for listener in self._server.LISTENERS:
            own = listener.cfg_addr
            # An IPv6 socket that was inherited names its scope, too.
            if (own[:2] if isinstance(own, tuple) else own) == address:
                return listener
        return None

    def _opened(self, text: str) -> Any:
        try:
            return open_listener(parse_address(text), self._server.cfg)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.errno else error
            raise ConfigurationError([f"server.bind: can't listen on {text}: {reason}"]) from error


def open_listener(address: Any, config: Any) -> Any:
    """A socket of gunicorn's. Raises OSError or ValueError."""
    if isinstance(address, int):
        raise OSError("only sockets that were there at the start can be used")
    if isinstance(address, tuple):
        return (TCP6Socket if ":" in address[0] else TCPSocket)(address, config, log)
    if is_listening(address):
        raise OSError("another process listens on it")
    return UnixSocket(address, config, log)


def is_listening(path: str) -> bool:
    """Whether somebody answers at a unix socket. gunicorn would take its path away."""
    if not os.path.exists(path):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(path) == 0
