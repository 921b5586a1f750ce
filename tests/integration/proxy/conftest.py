"""A service with and without TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from tests.support.certificates import Authority
from tests.support.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def tls_upstream(authority: Authority) -> Iterator[ScriptedUpstream]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("good", "127.0.0.1"))
    upstream = ScriptedUpstream(context)
    yield upstream
    upstream.close()


@pytest.fixture(params=["plain", "tls"])
def service(
    request: pytest.FixtureRequest, upstream: ScriptedUpstream, tls_upstream: ScriptedUpstream
) -> ScriptedUpstream:
    tls_upstream.reset()
    return upstream if request.param == "plain" else tls_upstream
