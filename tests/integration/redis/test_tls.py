"""Redis by TLS: by a private authority, only under its own name, with a client's certificate where it wants one."""

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
    """Its certificate is good, but for another host."""
    yield from running(TlsNode(authority, "redis.test", "127.0.0.2"))


@pytest.fixture(scope="module")
def asking(authority: Authority) -> Iterator[TlsNode]:
    """It wants certificates of clients."""
    yield from running(TlsNode(authority, "127.0.0.1", asks_clients=True))


def running(node: TlsNode) -> Iterator[TlsNode]:
    with ExitStack() as stack:
        stack.callback(node.end)
        node.start()
        wait_until(node.answers, "the server answers")
        yield node


def url_of(node: TlsNode, **files: Path) -> str:
    return f"rediss://127.0.0.1:{node.port}/0?{options_of_url(**files)}"


def take(url: str) -> bool:
    """Whether one more passes, by the gateway's own client with time enough for a busy machine."""
    return RedisCounters(SharedRedis(url, 10)).consume([LimitCheck(fresh_subject(), 5, DAY)])[0].passed


def gateways_on(
    start: Callable[..., GatewayProcess], upstream: ScriptedUpstream, url: str, gateways: int
) -> list[GatewayProcess]:
    settings = four_services(upstream.url) | {"ratelimit": {"default": f"{LIMIT}/day"}, "redis_timeout_seconds": 1.0}
    return [start(settings, environ={"REDIS_URL": url}) for _ in range(gateways)]


def test_quotas_and_revocations_are_shared_by_tls(
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


# In a process of its own, as the one of the tests is not gevent's.
SHARED_CONNECTION = """
from gevent import monkey; monkey.patch_all()
import gevent, sys
from gateway.redis.client import SharedRedis
redis = SharedRedis(sys.argv[1], 20)
# Many TLS records, and more than the system's buffers take at once.
large = b"x" * 8_000_000
redis.run("large", "SET", "large", large)
words = [f"word-{number}" for number in range(100)]
asked = [gevent.spawn(redis.run, "a", *(("GET", "large") if number % 20 == 0 else ("ECHO", word)))
         for number, word in enumerate(words)]
gevent.joinall(asked, raise_error=True)
expected = [large if number % 20 == 0 else word.encode() for number, word in enumerate(words)]
assert [one.get() for one in asked] == expected
connection = redis._multiplexed._connection
redis.run("a", "QUIT")
with gevent.Timeout(30):
    while not connection.is_closed:
        gevent.sleep(0.01)
assert redis.run("a", "ECHO", "again") == b"again"
"""


def test_requests_of_a_worker_share_a_connection_by_tls(server: TlsNode, authority: Authority) -> None:
    assert python("-c", SHARED_CONNECTION, url_of(server, ssl_ca_certs=authority.ca_file)) == ""


def test_a_server_of_another_name_is_a_redis_that_fails(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream, misnamed: TlsNode, authority: Authority
) -> None:
    """LimitSets are counted in the workers then; nothing is sent to who can't show that it is meant."""
    (gateway,) = gateways_on(start_gateway, upstream, url_of(misnamed, ssl_ca_certs=authority.ca_file), 1)
    statuses = answers_to([gateway], fresh_subject(), 2 * LIMIT)
    assert statuses.keys() == {200, 429}
    assert LIMIT // 2 <= statuses[200] <= LIMIT
    assert gateway.get("/readyz").json()["redis"] == "down"
    assert "certificate verify failed" in gateway.output()
    assert "Traceback" not in gateway.output()
    assert misnamed.ask("DBSIZE") == 0


def test_who_is_not_known_is_not_spoken_to(
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
            take(url)
    # One that the system trusts is not one that the operator named. (The system's are read once by a process.)
    make_context.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    with pytest.raises(FAILURES):
        take(url_of(server, ssl_ca_certs=stranger.ca_file))
    assert take(url_of(server))
    make_context.cache_clear()


def test_a_client_shows_its_certificate(asking: TlsNode, authority: Authority, stranger: Authority) -> None:
    certificate, key = authority.issue("gateway")
    wrong, wrong_key = stranger.issue("gateway")
    for files in ({}, {"ssl_certfile": wrong, "ssl_keyfile": wrong_key}):
        with pytest.raises(FAILURES):
            take(url_of(asking, ssl_ca_certs=authority.ca_file, **files))
    assert take(url_of(asking, ssl_ca_certs=authority.ca_file, ssl_certfile=certificate, ssl_keyfile=key))


def test_a_renewed_certificate_is_used_for_new_connections(
    asking: TlsNode, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """Contexts are kept, as each costs far more than a connection; but not for longer than the files are the same."""
    files = {"ssl_certfile": tmp_path / "gateway.crt", "ssl_keyfile": tmp_path / "gateway.key"}

    def renew(issuer: Authority) -> None:
        for new, file in zip(issuer.issue("renewed"), files.values(), strict=True):
            new.rename(file)

    renew(stranger)
    counters = RedisCounters(SharedRedis(url_of(asking, ssl_ca_certs=authority.ca_file, **files), 10))
    with pytest.raises(FAILURES):
        counters.consume([LimitCheck("ada", 5, DAY)])
    renew(authority)
    assert counters.consume([LimitCheck("ada", 5, DAY)])[0].passed


def test_sentinels_are_known_by_the_same_authority(server: TlsNode, authority: Authority, stranger: Authority) -> None:
    lines = [f"sentinel monitor quotas 127.0.0.1 {server.port} 1"]
    # It takes the same authority for the master that it watches.
    sentinel = TlsNode(
        authority, "127.0.0.1", options=["--tls-replication", "yes"], asks_clients=True, sentinel_lines=lines
    )
    certificate, key = authority.issue("gateway")
    for node in running(sentinel):
        files = {"ssl_certfile": certificate, "ssl_keyfile": key}
        url = f"rediss+sentinel://127.0.0.1:{node.port}/quotas/0?"
        assert take(url + options_of_url(ssl_ca_certs=authority.ca_file, **files))
        for wrong in ({"ssl_ca_certs": stranger.ca_file, **files}, {"ssl_ca_certs": authority.ca_file}):
            with pytest.raises(FAILURES):
                take(url + options_of_url(**wrong))


def test_a_clusters_nodes_are_known_by_the_same_authority(authority: Authority, stranger: Authority) -> None:
    settings = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", str(free_port())]
    for node in running(TlsNode(authority, "127.0.0.1", options=settings)):
        node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(partial(serves, node), "the cluster is well")
        url = f"rediss+cluster://127.0.0.1:{node.port}?"
        assert take(url + options_of_url(ssl_ca_certs=authority.ca_file))
        with pytest.raises(FAILURES):
            take(url + options_of_url(ssl_ca_certs=stranger.ca_file))
