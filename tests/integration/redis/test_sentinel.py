"""Redis behind sentinels: a gateway finds the current master, and no request fails meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.rate_limiting.models import LimitCheck
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.redis.client import SharedRedis
from tests.support.commands import flask
from tests.support.gateway import GatewayProcess, four_services
from tests.support.redis import wait_for_redis, wait_until
from tests.support.redis_node import Node
from tests.support.redis_sets import SentinelSet
from tests.support.redis_topologies import (
    check_counting,
    check_start_before_redis,
    connections_of,
    fresh_subject,
    start_before_redis,
    statuses_of,
    steady_load,
)
from tests.support.tokens import signed
from tests.support.upstream import ScriptedUpstream

LIMIT = 30
TIMEOUT_SECONDS = 1.0


@dataclass
class Setting:
    """The servers, and two gateways that share them: one with two workers, the other with one."""

    servers: SentinelSet
    gateways: list[GatewayProcess]
    at_start: Counter[int]

    def wait_for_recovery(self) -> None:
        for gateway in self.gateways:
            wait_for_redis(gateway)

    def check_counting(self, before_each: Callable[[], None] = lambda: None) -> None:
        check_counting(self.gateways, LIMIT, before_each)


@pytest.fixture(scope="module")
def setting(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> Iterator[Setting]:
    with SentinelSet() as servers:
        settings = four_services(module_upstream.url)
        settings |= {"ratelimit": {"default": f"{LIMIT}/day"}, "redis_timeout_seconds": TIMEOUT_SECONDS}
        gateways, at_start = start_before_redis(start_gateway, settings, LIMIT, servers.url, servers.start)
        yield Setting(servers, gateways, at_start)


def test_gateway_starts_without_sentinels_and_uses_them_later(setting: Setting) -> None:
    check_start_before_redis(setting.gateways[0], setting.at_start, LIMIT)
    setting.check_counting()


def test_only_workers_connect(setting: Setting) -> None:
    """A connection from before the fork would be shared by all workers, and replies would go to the wrong one."""
    setting.check_counting()
    for gateway in setting.gateways:
        assert connections_of(gateway.process.pid) == []
        assert any(setting.servers.the_master().port in connections_of(pid) for pid in gateway.worker_pids())


def test_the_master_dies_under_load(setting: Setting) -> None:
    """Until another server is the master, each worker counts for itself (`local`). Then counters are shared again and
    exact, and revocations apply."""
    with steady_load(setting.gateways) as load:
        old = setting.servers.the_master()
        old.kill()
        load.wait_for_more()
        new = setting.servers.wait_for_another_master(old)
        setting.wait_for_recovery()
        load.wait_for_more()
    assert load.statuses.keys() <= {200, 429}
    assert load.statuses[200] > 0
    setting.check_counting()
    assert new.ask("KEYS", "gateway:quota:*") != []

    token, other = signed("ada", jti="token-1"), signed("ada", jti="token-2")
    assert statuses_of(setting.gateways, token) == [200, 200]
    flask("revoke", "--jti", "token-1", environ={"REDIS_URL": setting.servers.url})
    assert statuses_of(setting.gateways, token) == [401, 401]
    assert statuses_of(setting.gateways, other) == [200, 200]
    # The old master comes back as a master. The sentinels would make it a replica some ten seconds later.
    old.start()
    wait_until(old.answers, "the old master answers")
    setting.check_counting()
    old.ask("REPLICAOF", "127.0.0.1", new.port)
    setting.servers.wait_until_ready(replicas=2)
    assert setting.servers.master is new
    setting.check_counting()


def replace_paused(servers: SentinelSet) -> tuple[Node, Node]:
    """Makes another server the master while no request is sent, and the old one its replica without closing a
    connection. Returns the old and the new master."""
    old = servers.the_master()
    old.pause()
    new = servers.wait_for_another_master(old)
    old.resume()
    old.ask("REPLICAOF", "127.0.0.1", new.port)
    return old, new


def test_connections_to_a_former_master_are_closed(setting: Setting) -> None:
    setting.servers.wait_until_ready(replicas=1)
    counters = RedisCounters(SharedRedis(setting.servers.url, TIMEOUT_SECONDS))
    check = LimitCheck(fresh_subject(), 100, 86400)
    assert counters.consume([check])[0].passed
    setting.check_counting()
    old, new = replace_paused(setting.servers)
    with steady_load(setting.gateways) as load:
        setting.wait_for_recovery()
        load.wait_for_more()
    assert load.statuses.keys() <= {200, 429}
    setting.check_counting()

    def connected() -> set[int]:
        return {port for gateway in setting.gateways for pid in gateway.worker_pids() for port in connections_of(pid)}

    assert new.port in connected()
    # The connection that publishes the status figures notices the change with its next command.
    setting.gateways[0].wait_until(lambda: old.port not in connected(), "give the old master up")
    assert "The previous master is now a slave" in "".join(gateway.output() for gateway in setting.gateways)
    with pytest.raises(RedisConnectionError):
        counters.consume([check])
    assert counters.consume([check])[0].passed


@pytest.mark.parametrize("number", [1, 2], ids=["one", "two"])
def test_hanging_sentinels_delay_no_request(setting: Setting, number: int) -> None:
    # This test allows a busy machine some time. tests/unit/redis/test_first_response.py proves that no request waits
    # for hanging sentinels: there, timeouts never end.
    with paused(setting.servers, number) as master:
        setting.check_counting(lambda: drop_connections(master))


def test_the_last_known_master_is_used_without_sentinels(setting: Setting) -> None:
    with paused(setting.servers, 3) as master:
        setting.check_counting(lambda: drop_connections(master))


@contextmanager
def paused(servers: SentinelSet, number: int) -> Iterator[Node]:
    """Stops `number` sentinels. Yields the master, which must stay the same. Tests that use this come last: a sentinel
    that was stopped for more than two seconds takes part in no failover for half a minute (TILT mode)."""
    master = servers.the_master()
    hung = servers.sentinels[:number]
    for sentinel in hung:
        sentinel.pause()
    try:
        yield master
    finally:
        for sentinel in hung:
            sentinel.resume()


def drop_connections(server: Node) -> None:
    """Closes all connections to the server. The next requests need new connections, and ask the sentinels for the
    master."""
    with server.client() as admin:
        admin.client_kill_filter(_type="normal", skipme=True)


def test_no_gateway_logged_an_exception_or_a_500(setting: Setting) -> None:
    for gateway in setting.gateways:
        assert "Traceback" not in gateway.output()
        assert [line for line in gateway.access_log() if line["status"] >= 500] == []
