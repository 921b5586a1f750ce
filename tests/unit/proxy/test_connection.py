"""A connection to a service over a real socket."""

from __future__ import annotations

import socket
import struct

import pytest

from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.connection_errors import ConnectionAborted, ConnectionClosed
from gateway.proxy.timeouts import Timeouts


def test_a_reset_reported_to_a_send_is_not_an_orderly_end_for_a_read() -> None:
    """The system reports a reset once. If a send has reported it, the next read sees an orderly end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = UpstreamConnection(socket.create_connection(listener.getsockname(), 10))
        connection.begin_round_trip(None, Timeouts(10, 10, 10))
        service, _ = listener.accept()
        service.sendall(b"part")
        assert connection.read_some(100) == b"part"
        service.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        service.close()
        with pytest.raises(ConnectionClosed):
            connection.send(b"more of the request")
        with pytest.raises(ConnectionAborted):
            connection.read_some(100)
        connection.close()
