"""Redis Cluster: all keys of a request are on one node, also while their slot moves to another node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.rate_limiting.models import LimitCheck, RevocationLookup
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.redis.client import FAILURES, SharedRedis
from gateway.redis.cluster import CLUSTER_PARTITIONS
from gateway.tokens.revocation import Revocations
from tests.support.commands import flask
from tests.support.gateway import GatewayProcess
from tests.support.redis import wait_for_redis, wait_until
from tests.support.redis_node import Node
from tests.support.redis_sets import Cluster, serves
from tests.support.redis_topologies import (
    answers_to,
    check_counting,
    check_start_before_redis,
    connections_of,
    failures,
    fresh_subject,
    get,
    start_before_redis,
    statuses_of,
    steady_load,
)
from tests.support.tokens import bearer, signed
from tests.support.upstream import ScriptedUpstream

LIMIT = 30
DAY = 86400
# Each service counts its limits by another dimension.
COUNTED_BY = {
    "principal": ["900/day"],
    "address": ["900/day by address"],
    "service": ["900/day by service"],
    "route": ["900/day by route", "901/day by service"],
    "claim": ["900/day by claim:tenant"],
    "header": ["900/day by header:X-Api-Key"],
    "both": ["900/day by principal+service", "901/hour by service+principal"],
    "shared": ["900/day by principal", "901/day by principal+address", "9000/day burst 901 by principal+header:X-Key"],
    "apart": ["900/day by principal", "901/day by address", "902/day fixed by service", "903/day by claim:tenant"],
}


@dataclass
class Setting:
    """The cluster, and two gateways that share it: one with two workers, the other with one."""

    cluster: Cluster
    gateways: list[GatewayProcess]
    at_start: Counter[int]

    def wait_for_recovery(self) -> None:
        for gateway in self.gateways:
            wait_for_redis(gateway)

    def check_counting(self, subject: str | None = None) -> None:
        """Checks that the counts of all workers are exact. `subject` must be a caller who has not been counted
        before."""
        check_counting(self.gateways, LIMIT, subject=subject)

    def counters(self) -> RedisCounters:
        """Uses the gateway's own Redis client, but with a timeout that is long enough for a busy machine."""
        return RedisCounters(SharedRedis(self.cluster.url, 10))


@pytest.fixture(scope="module")
def setting(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> Iterator[Setting]:
    services: dict[str, Any] = {
        name: {"prefix": f"/api/by-{name}", "targets": [module_upstream.url], "limits": limits}
        for name, limits in COUNTED_BY.items()
    }
    services["devices"] = {"targets": [module_upstream.url]}
    settings = {"services": services, "ratelimit": {"default": f"{LIMIT}/day"}, "redis_timeout_seconds": 1.0}
    with Cluster() as cluster:
        gateways, at_start = start_before_redis(start_gateway, settings, LIMIT, cluster.url, cluster.start)
        yield Setting(cluster, gateways, at_start)


def test_gateway_starts_without_the_cluster_and_uses_it_later(setting: Setting) -> None:
    check_start_before_redis(setting.gateways[0], setting.at_start, LIMIT)
    setting.check_counting()


def test_only_workers_connect(setting: Setting) -> None:
    """A connection from before the fork would be shared by all workers, and replies would go to the wrong one."""
    setting.check_counting()
    ports = {node.port for node in setting.cluster.nodes}
    for gateway in setting.gateways:
        assert connections_of(gateway.process.pid) == []
        assert any(ports & set(connections_of(pid)) for pid in gateway.worker_pids())


def test_many_callers_are_counted_exactly_on_all_nodes(setting: Setting) -> None:
    subjects = [fresh_subject() for _ in range(12)]
    assert {setting.cluster.node_of(caller_key(subject)) for subject in subjects} == set(setting.cluster.nodes)
    for subject in subjects:
        setting.check_counting(subject)


def caller_key(subject: str) -> str:
    """The partition key of a caller, for limits that are counted by principal."""
    return f"user::{subject}"


def test_keys_are_spread_over_the_nodes(setting: Setting) -> None:
    counters = setting.counters()

    def stored_keys() -> list[set[bytes]]:
        # Excludes the workers' status, whose keys come and go.
        return [set(node.ask("KEYS", "*gateway:quota:*")) for node in setting.cluster.nodes]

    before = stored_keys()
    for number in range(600):
        counters.consume([LimitCheck(f"caller-{number}", 5, DAY)], partition_key=f"caller-{number}")
    # Only new keys are counted, because old counters of short limits may have expired in the meantime.
    new = [len(now - then) for now, then in zip(stored_keys(), before, strict=True)]
    assert sum(new) == 600
    # A node has a third of the slots, but not exactly a third of the partitions.
    assert min(new) > 100


@pytest.mark.parametrize("name", COUNTED_BY)
def test_a_request_is_one_command_on_one_node(setting: Setting, name: str) -> None:
    """For each dimension, the counters and the revocation of the token are in one partition."""
    fields = [bearer(fresh_subject(), jti="a-token", tenant="acme"), ("X-Api-Key", "k"), ("X-Key", "k")]
    for gateway in setting.gateways:
        assert get(gateway, f"/api/by-{name}", *fields) == 200
    before = failures(setting.gateways)
    setting.cluster.forget_calls()
    for number in range(12):
        assert get(setting.gateways[number % 2], f"/api/by-{name}", *fields) == 200
    assert sorted(setting.cluster.calls("evalsha")) == [0, 0, 12]
    assert sum(setting.cluster.calls("eval")) == 0
    # No call was redirected, and none had keys of two slots.
    assert setting.cluster.errors() == set()
    assert failures(setting.gateways) == before


def test_revocations_are_seen_in_every_partition(setting: Setting) -> None:
    environ = {"REDIS_URL": setting.cluster.url}
    callers = [(fresh_subject(), f"token-{number}") for number in range(6)]
    callers += [(callers[0][0], "token-of-the-same")]
    tokens = [signed(subject, jti=name, iat=1) for subject, name in callers]
    assert all(statuses_of(setting.gateways, token) == [200, 200] for token in tokens)
    assert f"jti {callers[0][1]}" in flask("revoke", "--jti", callers[0][1], environ=environ)
    revocations = Revocations(SharedRedis(setting.cluster.url, 10), 60)
    for _, name in callers[1:3]:
        revocations.revoke_token(name, "", None)
    flask("revoke", "--sub", callers[4][0], environ=environ)
    expected = [401, 401, 401, 200, 401, 200, 200]
    assert [set(statuses_of(setting.gateways, token)) for token in tokens] == [{status} for status in expected]
    # Each dimension has its own partitions, and each partition has the revocation.
    for name in COUNTED_BY:
        field = ("Authorization", f"Bearer {tokens[0]}")
        assert get(setting.gateways[0], f"/api/by-{name}", field, ("X-Api-Key", f"k{name}"), ("X-Key", "k")) == 401
    entries = sum(len(node.ask("KEYS", "*gateway:revoked:*")) for node in setting.cluster.nodes)
    assert entries == 4 * CLUSTER_PARTITIONS
    listed = flask("revoked", environ=environ).splitlines()
    assert [line.split(",")[0] for line in listed if line] == [
        *(f"jti {name}" for _, name in callers[:3]),
        f"sub {callers[4][0]}",
    ]
    flask("revoke", "--jti", callers[0][1], "--undo", environ=environ)
    assert revocations.remove("sub", callers[4][0], "")
    assert statuses_of(setting.gateways, tokens[0]) == statuses_of(setting.gateways, tokens[4]) == [200, 200]


def test_partitions_move_to_other_nodes_under_load(setting: Setting) -> None:
    """No request fails and no count is wrong: the counters move with their slot."""
    before, amount = failures(setting.gateways), 0
    subject = fresh_subject()
    moved = caller_key(subject)
    with steady_load(setting.gateways) as load:
        for _ in range(4):
            source, target = setting.cluster.begin_to_move(moved)
            amount += answers_to(setting.gateways, subject, 5)[200]
            setting.cluster.end_to_move(moved, source, target)
            amount += answers_to(setting.gateways, subject, 5)[200]
        load.wait_for_more()
    assert load.statuses.keys() <= {200, 429}
    assert amount == LIMIT
    assert failures(setting.gateways) == before
    setting.check_counting()


def test_several_limits_are_exact_while_their_slot_moves(setting: Setting) -> None:
    """While a slot moves, a node refuses a call whose keys are on both nodes. Keys that don't exist, as most
    revocations, count as moved. The client then sends one call per key."""
    counters = setting.counters()
    checks = [LimitCheck(f"{name}-{fresh_subject()}", amount, DAY) for name, amount in (("a", 12), ("b", 9), ("c", 50))]
    lookup = RevocationLookup(["gateway:revoked:jti:somebody", "gateway:revoked:jti:nobody"])
    moved = checks[0].key

    def consume(tries: int) -> int:
        return sum(all(one.passed for one in counters.consume(checks, lookup, moved)) for _ in range(tries))

    redis = SharedRedis(setting.cluster.url, 10)
    name = redis.hash_tags.tag_for(moved) + lookup.keys[0]
    redis.run(name, "SET", name, "5 about")
    assert consume(2) == 2
    source, target = setting.cluster.begin_to_move(moved)
    assert consume(2) == 2
    assert lookup.values == [5, None]
    # Some keys have moved, some have not.
    assert setting.cluster.move_keys(moved, source, target, 2) == 2
    assert consume(2) == 2
    assert lookup.values == [5, None]
    assert consume(5) == 3
    setting.cluster.end_to_move(moved, source, target)
    assert consume(5) == 0
    assert lookup.values == [5, None]
    # Requests that the smallest limit refused were charged to no limit.
    left = counters.consume(checks, None, moved, dry_run=True)
    assert [one.remaining for one in left] == [3, 0, 41]


def test_a_replica_takes_over_from_a_node_that_dies_under_load(setting: Setting) -> None:
    master = setting.cluster.node_of(caller_key("ada"))
    replica = setting.cluster.add_replica(master)
    with steady_load(setting.gateways) as load:
        master.kill()
        load.wait_for_more()
        wait_until(lambda: setting.cluster.node_of(caller_key("ada")) is replica and serves(replica), "it takes over")
        setting.wait_for_recovery()
        load.wait_for_more()
    assert load.statuses.keys() <= {200, 429}
    setting.check_counting("ada")


@contextmanager
def partial_coverage(cluster: Cluster) -> Iterator[None]:
    """Makes nodes serve their own slots while other slots are not served, which is not Redis' default."""
    for node in cluster.running:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    yield
    # If a node still remembered this failure, it would not announce the next one.
    wait_until(lambda: all(knows_of_no_failure(node) for node in cluster.running), "all nodes are well")
    for node in cluster.running:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "yes")


def knows_of_no_failure(node: Node) -> bool:
    state = node.ask("CLUSTER INFO")
    return int(state["cluster_slots_fail"]) == int(state["cluster_slots_pfail"]) == 0


def callers_of(cluster: Cluster, node: Node, count: int) -> list[str]:
    """Callers whose counters are on this node."""
    subjects: list[str] = []
    while len(subjects) < count:
        subject = fresh_subject()
        if cluster.node_of(caller_key(subject)) is node:
            subjects.append(subject)
    return subjects


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_a_dead_node_affects_only_its_own_callers(setting: Setting, how: str) -> None:
    """All other callers are still counted exactly by all workers together, and revocations of their tokens apply."""
    dead, *others = setting.cluster.running
    own = callers_of(setting.cluster, dead, 2)
    rest = [subject for node in others for subject in callers_of(setting.cluster, node, 2)]
    revoked = callers_of(setting.cluster, others[0], 1)[0]
    Revocations(SharedRedis(setting.cluster.url, 10), 60).revoke_subject(revoked, "")
    with partial_coverage(setting.cluster):
        dead.kill() if how == "killed" else dead.pause()
        with steady_load(setting.gateways) as load:
            load.wait_for_more(100)
            wait_until(lambda: all(serves(node) for node in others), "the others serve")
            for subject in rest:
                setting.check_counting(subject)
            answers = [answers_to(setting.gateways, subject, 2 * LIMIT) for subject in own]
            assert statuses_of(setting.gateways, signed(revoked)) == [401, 401]
            assert {gateway.get("/readyz").json()["redis"] for gateway in setting.gateways[1:]} == {"down"}
        assert load.statuses.keys() <= {200, 429}
        dead.start() if how == "killed" else dead.resume()
        wait_until(lambda: serves(dead), "the node is back")
    # While the node was dead, each of the three workers counted its share. A caller may have met only one of the two
    # workers of a gateway.
    assert all(LIMIT <= answer[200] <= 2 * LIMIT and answer.keys() <= {200, 429} for answer in answers)
    setting.wait_for_recovery()
    for subject in callers_of(setting.cluster, dead, 2):
        setting.check_counting(subject)


def test_fallback_for_all_callers_if_a_node_without_replica_dies(setting: Setting) -> None:
    """Once the cluster has noticed, the other nodes refuse commands as well (`cluster-require-full-coverage`, Redis'
    default), so `on_redis_failure` applies to all callers. No request hangs, and the gateway recovers when the node is
    back."""
    dead = setting.cluster.running[0]
    with steady_load(setting.gateways, clients=8) as load:
        dead.kill()
        load.wait_for_more(100)
        others = setting.cluster.running
        wait_until(lambda: not any(serves(node) for node in others), "the cluster has noticed")
        load.wait_for_more(100)
        dead.start()
        wait_until(lambda: all(serves(node) for node in others), "the node is back")
        setting.wait_for_recovery()
        load.wait_for_more()
    assert load.statuses.keys() <= {200, 429}
    setting.wait_for_recovery()
    setting.check_counting()


def test_a_revocation_is_stored_on_the_nodes_that_work(setting: Setting) -> None:
    """If a node is down, the command fails, so that the operator repeats it; the other nodes have the revocation
    anyway."""
    dead, *others = setting.cluster.running
    for node in [dead, *others]:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    dead.kill()
    redis = SharedRedis(setting.cluster.url, 5)
    with pytest.raises(FAILURES):
        Revocations(redis, 60).revoke_token("half", "", None)
    marked = [len(node.ask("KEYS", "*gateway:revoked:jti:*")) for node in others]
    dead.start()
    wait_until(lambda: all(serves(node) for node in [dead, *others]), "the node is back")
    for node in [dead, *others]:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "yes")
    Revocations(redis, 60).revoke_token("half", "", None)
    assert [len(node.ask("KEYS", "*gateway:revoked:jti:*")) for node in others] == marked


def test_a_hanging_cluster_delays_requests_by_two_timeouts_at_most(setting: Setting) -> None:
    """A response may wait for two timeouts of one second: one for the command, one to learn which node has the slot."""
    paused = setting.cluster.running
    for node in paused:
        node.pause()
    try:
        with steady_load(setting.gateways, clients=16) as load:
            load.wait_for_more(200)
        assert load.statuses.keys() <= {200, 429}
    finally:
        for node in paused:
            node.resume()
    setting.wait_for_recovery()
    setting.check_counting()


def test_no_gateway_logged_an_exception_or_a_500(setting: Setting) -> None:
    for gateway in setting.gateways:
        assert "Traceback" not in gateway.output()
        assert [line for line in gateway.access_log() if line["status"] >= 500] == []
