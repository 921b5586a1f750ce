"""A name may have several addresses. The connection is made to the first one that accepts (RFC 8305)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.system import tcp
from gateway.system.tcp import connect_to_any, sort_for_attempts
from tests.support.sockets import deafen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize("port", [70000, 65536 + 80, 0, -1, 10**30])
def test_an_impossible_port_is_an_os_error(host: str, port: int) -> None:
    with pytest.raises(OSError, match="port"):
        connect_to_any(host, port, time.monotonic() + 5)


class Listener:
    """Listens on a free port of an address. A deaf listener neither accepts connections nor refuses them."""

    def __init__(self, host: str = "127.0.0.1", *, is_deaf: bool = False) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.bind((host, 0))
        self.socket.listen(16)
        self.address = (family, socket.SOCK_STREAM, 6, "", self.socket.getsockname())
        self._filling = deafen(self.socket) if is_deaf else []

    def close(self) -> None:
        for one in (self.socket, *self._filling):
            one.close()


class TestSeveralAddresses:
    """A name with several addresses."""

    @pytest.fixture
    def deaf(self) -> Iterator[Listener]:
        listener = Listener(is_deaf=True)
        yield listener
        listener.close()

    @pytest.fixture
    def good(self) -> Iterator[Listener]:
        listener = Listener()
        yield listener
        listener.close()

    @pytest.fixture
    def refusing(self) -> Any:
        listener = Listener()
        listener.close()
        return listener

    @pytest.fixture(autouse=True)
    def forget(self) -> Iterator[None]:
        tcp.LAST_CONNECTED.clear()
        yield
        tcp.LAST_CONNECTED.clear()

    @pytest.fixture
    def name(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """The addresses of several.test, in the order in which the system's resolver returns them."""
        addresses: list[Any] = []
        # The system's resolver does not know this name.
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: list(addresses))
        return addresses

    def connect(self, seconds: float = 30) -> Any:
        with connect_to_any("several.test", 80, time.monotonic() + seconds) as sock:
            return sock.getpeername()

    def test_an_address_that_does_not_reply_is_passed_over(
        self, name: list[Any], deaf: Listener, good: Listener
    ) -> None:
        name += [deaf.address, good.address]
        assert self.connect() == good.socket.getsockname()

    def test_addresses_that_refuse_are_passed_over_at_once(
        self, name: list[Any], refusing: Listener, good: Listener
    ) -> None:
        name += [refusing.address] * 2 + [good.address]
        assert self.connect() == good.socket.getsockname()

    def test_the_address_of_the_last_connection_is_tried_first(
        self, name: list[Any], deaf: Listener, good: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name += [deaf.address, good.address]
        self.connect()
        # The second connection must begin with the good address: an attempt at the deaf one would take until the
        # deadline now.
        monkeypatch.setattr(tcp, "ATTEMPT_DELAY_SECONDS", 1000)
        assert self.connect() == good.socket.getsockname()

    def test_an_address_of_the_last_connection_that_is_gone_is_passed_over(
        self, name: list[Any], good: Listener
    ) -> None:
        other = Listener()
        name += [other.address, good.address]
        assert self.connect() == other.socket.getsockname()
        other.close()
        assert self.connect() == good.socket.getsockname()
        name[:] = [good.address]
        assert self.connect() == good.socket.getsockname()

    def test_each_address_is_tried_within_a_short_deadline(
        self, name: list[Any], deaf: Listener, good: Listener
    ) -> None:
        name += [deaf.address, deaf.address, good.address]
        assert self.connect(0.2) == good.socket.getsockname()

    def test_all_attempts_share_the_deadline(self, name: list[Any], deaf: Listener) -> None:
        other = Listener(is_deaf=True)
        name += [deaf.address, other.address]
        with pytest.raises(TimeoutError):
            self.connect(0.1)
        other.close()

    def test_the_error_is_refused_if_all_addresses_refuse(self, name: list[Any], refusing: Listener) -> None:
        name += [refusing.address, refusing.address]
        with pytest.raises(ConnectionRefusedError):
            self.connect()

    def test_sockets_of_abandoned_attempts_are_closed(self, name: list[Any], deaf: Listener, good: Listener) -> None:
        name += [deaf.address, good.address]
        before = len(list(Path("/proc/self/fd").iterdir()))
        self.connect()
        name[:] = [deaf.address, deaf.address]
        with pytest.raises(TimeoutError):
            self.connect(0.05)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_attempts_alternate_between_ipv6_and_ipv4() -> None:
    def address(family: int, host: str) -> Any:
        return family, socket.SOCK_STREAM, 6, "", (host, 80)

    six = [address(socket.AF_INET6, f"::{number}") for number in (1, 2, 3)]
    four = [address(socket.AF_INET, f"10.0.0.{number}") for number in (1, 2)]
    ordered = sort_for_attempts([*six, *four, four[0]], None)
    assert ordered == [six[0], four[0], six[1], four[1], six[2]]
    assert sort_for_attempts([*six, *four], four[1]) == [four[1], six[0], four[0], six[1], six[2]]
