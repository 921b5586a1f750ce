"""Redis with TLS: private authorities, host names, client certificates, and the multiplexed connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from gateway.rate_limiting.models import LimitCheck
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.redis.client import FAILURES, SharedRedis
from gateway.redis.tls import make_context
from tests.support.certificates import Authority
from tests.support.commands import flask, python
from tests.support.gateway import GatewayProcess, four_services
from tests.support.redis import free_port, wait_until
from tests.support.redis_sets import serves
from tests.support.redis_tls import TlsNode, options_of_url
from tests.support.redis_topologies import answers_to, failures, fresh_subject, statuses_of
from tests.support.tokens import signed
from tests.support.upstream import ScriptedUpstream

LIMIT = 20
DAY = 86400


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[TlsNode]:
    yield from running(TlsNode(authority, "127.0.0.1", "localhost"))


@pytest.fixture(scope="module")
def misnamed(authority: Authority) -> Iterator[TlsNode]:
    """A Redis with a valid certificate for another host."""
    yield from running(TlsNode(authority, "redis.test", "127.0.0.2"))


@pytest.fixture(scope="module")
def mutual(authority: Authority) -> Iterator[TlsNode]:
    """A Redis that requires client certificates."""
    yield from running(TlsNode(authority, "127.0.0.1", asks_clients=True))


def running(node: TlsNode) -> Iterator[TlsNode]:
    with ExitStack() as stack:
        stack.callback(node.end)
        node.start()
        wait_until(node.answers, "the server answers")
        yield node


def url_of(node: TlsNode, **files: Path) -> str:
    return f"rediss://127.0.0.1:{node.port}/0?{options_of_url(**files)}"


def passes(url: str) -> bool:
    """Whether a request passes. Uses the gateway's own Redis client, but with a timeout that is long enough for a busy
    machine."""
    return RedisCounters(SharedRedis(url, 10)).consume([LimitCheck(fresh_subject(), 5, DAY)])[0].passed


def gateways_on(
    start: Callable[..., GatewayProcess], upstream: ScriptedUpstream, url: str, gateways: int
) -> list[GatewayProcess]:
    settings = four_services(upstream.url) | {"ratelimit": {"default": f"{LIMIT}/day"}, "redis_timeout_seconds": 1.0}
    return [start(settings, environ={"REDIS_URL": url}) for _ in range(gateways)]


def test_gateways_share_counters_and_revocations(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream, server: TlsNode, authority: Authority
) -> None:
    url = url_of(server, ssl_ca_certs=authority.ca_file)
    gateways = gateways_on(start_gateway, upstream, url, 2)
    assert answers_to(gateways, fresh_subject(), LIMIT + 8) == {200: LIMIT, 429: 8}
    token = signed("ada", jti="token-1")
    assert statuses_of(gateways, token) == [200, 200]
    flask("revoke", "--jti", "token-1", environ={"REDIS_URL": url})
    assert statuses_of(gateways, token) == [401, 401]
    assert failures(gateways) == 0


# This runs in its own process, because the tests' process is not patched by gevent.
SHARED_CONNECTION = """
from gevent import monkey; monkey.patch_all()
import gevent, sys
from gateway.redis.client import SharedRedis
redis = SharedRedis(sys.argv[1], 20)
# Many TLS records, and more than the system's buffers hold.
large = b"x" * 8_000_000
redis.run("large", "SET", "large", large)
words = [f"word-{number}" for number in range(100)]
running_commands = [gevent.spawn(redis.run, "a", *(("GET", "large") if number % 20 == 0 else ("ECHO", word)))
         for number, word in enumerate(words)]
gevent.joinall(running_commands, raise_error=True)
expected = [large if number % 20 == 0 else word.encode() for number, word in enumerate(words)]
assert [one.get() for one in running_commands] == expected
connection = redis._multiplexed._connection
redis.run("a", "QUIT")
with gevent.Timeout(30):
    while not connection.is_closed:
        gevent.sleep(0.01)
assert redis.run("a", "ECHO", "again") == b"again"
"""


def test_requests_of_a_worker_share_a_connection(server: TlsNode, authority: Authority) -> None:
    assert python("-c", SHARED_CONNECTION, url_of(server, ssl_ca_certs=authority.ca_file)) == ""


def test_a_certificate_for_another_host_is_a_failure_of_redis(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream, misnamed: TlsNode, authority: Authority
) -> None:
    """In this case workers count for themselves, and nothing is sent to the server."""
    (gateway,) = gateways_on(start_gateway, upstream, url_of(misnamed, ssl_ca_certs=authority.ca_file), 1)
    statuses = answers_to([gateway], fresh_subject(), 2 * LIMIT)
    assert statuses.keys() == {200, 429}
    assert LIMIT // 2 <= statuses[200] <= LIMIT
    assert gateway.get("/readyz").json()["redis"] == "down"
    assert "certificate verify failed" in gateway.output()
    assert "Traceback" not in gateway.output()
    assert misnamed.ask("DBSIZE") == 0


def test_servers_without_a_trusted_certificate_are_refused(
    server: TlsNode, misnamed: TlsNode, authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in (
        url_of(misnamed, ssl_ca_certs=authority.ca_file),
        url_of(server, ssl_ca_certs=stranger.ca_file),
        url_of(server),
        url_of(server, ssl_ca_certs=Path("/nowhere.pem")),
        f"redis://127.0.0.1:{server.port}/0",
    ):
        with pytest.raises(FAILURES):
            passes(url)
    # With ssl_ca_certs the system's authorities must not be trusted. The cache is cleared because they are loaded once
    # per process.
    make_context.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    with pytest.raises(FAILURES):
        passes(url_of(server, ssl_ca_certs=stranger.ca_file))
    assert passes(url_of(server))
    make_context.cache_clear()


def test_client_certificates(mutual: TlsNode, authority: Authority, stranger: Authority) -> None:
    certificate, key = authority.issue("gateway")
    wrong, wrong_key = stranger.issue("gateway")
    for files in ({}, {"ssl_certfile": wrong, "ssl_keyfile": wrong_key}):
        with pytest.raises(FAILURES):
            passes(url_of(mutual, ssl_ca_certs=authority.ca_file, **files))
    assert passes(url_of(mutual, ssl_ca_certs=authority.ca_file, ssl_certfile=certificate, ssl_keyfile=key))


def test_a_renewed_certificate_is_used_for_new_connections(
    mutual: TlsNode, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """TLS contexts are cached, because creating one is slow, but only until one of their files changes."""
    files = {"ssl_certfile": tmp_path / "gateway.crt", "ssl_keyfile": tmp_path / "gateway.key"}

    def renew(issuer: Authority) -> None:
        for new, file in zip(issuer.issue("renewed"), files.values(), strict=True):
            new.rename(file)

    renew(stranger)
    counters = RedisCounters(SharedRedis(url_of(mutual, ssl_ca_certs=authority.ca_file, **files), 10))
    with pytest.raises(FAILURES):
        counters.consume([LimitCheck("ada", 5, DAY)])
    renew(authority)
    assert counters.consume([LimitCheck("ada", 5, DAY)])[0].passed


def test_the_authority_applies_to_sentinels(server: TlsNode, authority: Authority, stranger: Authority) -> None:
    lines = [f"sentinel monitor quotas 127.0.0.1 {server.port} 1"]
    # The sentinel uses the same authority to verify the master that it monitors.
    sentinel = TlsNode(
        authority, "127.0.0.1", options=["--tls-replication", "yes"], asks_clients=True, sentinel_lines=lines
    )
    certificate, key = authority.issue("gateway")
    for node in running(sentinel):
        files = {"ssl_certfile": certificate, "ssl_keyfile": key}
        url = f"rediss+sentinel://127.0.0.1:{node.port}/quotas/0?"
        assert passes(url + options_of_url(ssl_ca_certs=authority.ca_file, **files))
        for wrong in ({"ssl_ca_certs": stranger.ca_file, **files}, {"ssl_ca_certs": authority.ca_file}):
            with pytest.raises(FAILURES):
                passes(url + options_of_url(**wrong))


def test_the_authority_applies_to_cluster_nodes(authority: Authority, stranger: Authority) -> None:
    settings = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", str(free_port())]
    for node in running(TlsNode(authority, "127.0.0.1", options=settings)):
        node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(partial(serves, node), "the cluster is well")
        url = f"rediss+cluster://127.0.0.1:{node.port}?"
        assert passes(url + options_of_url(ssl_ca_certs=authority.ca_file))
        with pytest.raises(FAILURES):
            passes(url + options_of_url(ssl_ca_certs=stranger.ca_file))
