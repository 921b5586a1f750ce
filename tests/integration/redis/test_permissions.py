"""docs/rate-limits.md lists the permissions (ACL) that a gateway's user in Redis needs. These are enough, and none is
superfluous."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from itertools import count as counting

import pytest
from redis import RedisError
from redis.exceptions import NoPermissionError

from gateway.api_documents.document_state import DocumentState
from gateway.api_documents.store import DocumentStore
from gateway.rate_limiting.models import LimitCheck, RevocationLookup
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.redis.client import SharedRedis
from gateway.status.publisher import StatusStore
from gateway.tokens.revocation import Revocations
from tests.support.redis import wait_until
from tests.support.redis_node import Node
from tests.support.redis_sets import MASTER, Cluster

USER = "on >a-secret resetchannels".split()
KEYS = ["~gateway:*"]
# In a cluster all keys begin with a hash tag.
CLUSTER_KEYS = ["~{*}gateway:*"]
# GET, SET and TIME are called by the script.
COUNTING = "+evalsha +eval +get +set +time".split()
REVOKING = "+get +set +del +ttl +scan".split()
DOCUMENTS = "+mget +get +set +expire +del".split()
STATUS = "+set +expire +mget +zadd +zrange +zremrangebyscore".split()
CLUSTER = "+cluster|slots +asking".split()
SENTINEL = "+sentinel|masters".split()

DAY = 86400
numbers = counting(1)
CHECK = LimitCheck("ada", 100, DAY)
LOOKUP = RevocationLookup(["gateway:revoked:sub:ada"])


@pytest.fixture(scope="module")
def server() -> Iterator[Node]:
    with ExitStack() as stack:
        node = Node([])
        stack.callback(node.end)
        node.start()
        wait_until(node.answers, "the server answers")
        yield node


def grant(node: Node, *rights: str) -> None:
    node.ask("ACL", "SETUSER", "gateway", "reset", *USER, *rights)


def count(url: str, script_is_new: Node | None = None) -> bool:
    if script_is_new is not None:
        script_is_new.ask("SCRIPT", "FLUSH")
    return RedisCounters(SharedRedis(url, 10)).consume([CHECK], lookup=LOOKUP)[0].passed


def revoke(url: str) -> None:
    revocations = Revocations(SharedRedis(url, 10), 60)
    revocations.revoke_subject("eve", "")
    assert [one.name for one in revocations.list_all()] == ["eve"]
    assert revocations.remove("sub", "eve", "")


def test_counting_needs_each_right(server: Node) -> None:
    url = f"redis://gateway:a-secret@{server.address}/0"
    grant(server, *KEYS, *COUNTING)
    assert count(url, server)
    assert count(url)
    for missing in [*KEYS, *COUNTING]:
        grant(server, *(right for right in [*KEYS, *COUNTING] if right != missing))
        with pytest.raises(RedisError):
            count(url, server)


def share_documents(url: str) -> None:
    # Each call uses another name, because an earlier call that failed for a missing right may have left keys behind.
    name = f"service-{next(numbers)}"
    store = DocumentStore(SharedRedis(url, 10))
    version = sha256(b"{}").hexdigest()
    state = DocumentState(version, checked_at=1.0)
    assert store.lock_fetch(name, 10)
    assert not store.lock_fetch(name, 10)
    store.write(name, state, b"{}")
    store.write(name, state, None)
    store.unlock_fetch(name)
    assert store.read([name, "rules"]) == {name: state}
    assert store.content(name, version, 100) == b"{}"


def test_sharing_documents_needs_each_right(server: Node) -> None:
    url = f"redis://gateway:a-secret@{server.address}/0"
    grant(server, *KEYS, *DOCUMENTS)
    share_documents(url)
    for missing in [*KEYS, *DOCUMENTS]:
        grant(server, *(right for right in [*KEYS, *DOCUMENTS] if right != missing))
        with pytest.raises(NoPermissionError):
            share_documents(url)


def share_status(url: str) -> None:
    store = StatusStore(SharedRedis(url, 10), time.time)
    store.write_history("one:1", "{}")
    store.write_report("one:1", "[]")
    assert store.read() == {"one:1": (b"[]", b"{}")}


def test_sharing_the_status_needs_each_right(server: Node) -> None:
    url = f"redis://gateway:a-secret@{server.address}/0"
    grant(server, *KEYS, *STATUS)
    share_status(url)
    for missing in [*KEYS, *STATUS]:
        grant(server, *(right for right in [*KEYS, *STATUS] if right != missing))
        with pytest.raises(NoPermissionError):
            share_status(url)


def test_revoking_needs_each_right(server: Node) -> None:
    url = f"redis://gateway:a-secret@{server.address}/0"
    grant(server, *KEYS, *REVOKING)
    revoke(url)
    for missing in [*KEYS, *REVOKING]:
        grant(server, *(right for right in [*KEYS, *REVOKING] if right != missing))
        with pytest.raises(NoPermissionError):
            revoke(url)


def test_sentinels_need_only_the_right_to_list_masters(server: Node) -> None:
    grant(server, *KEYS, *COUNTING)
    with ExitStack() as stack:
        sentinel = Node([], sentinel_lines=[f"sentinel monitor {MASTER} 127.0.0.1 {server.port} 1"])
        stack.callback(sentinel.end)
        sentinel.start()
        wait_until(sentinel.answers, "the sentinel answers")
        url = f"redis+sentinel://gateway:a-secret@{sentinel.address}/{MASTER}/0"
        url += "?sentinel_username=gateway&sentinel_password=a-secret"
        grant(sentinel, *SENTINEL)
        assert count(url)
        grant(sentinel)
        with pytest.raises(NoPermissionError):
            count(url)


def test_a_cluster_needs_the_rights_for_slots_and_asking() -> None:
    with Cluster() as cluster:
        cluster.start()
        url = cluster.url.replace("://", "://gateway:a-secret@")
        for node in cluster.nodes:
            grant(node, *CLUSTER_KEYS, *COUNTING, *REVOKING, *DOCUMENTS, *STATUS, *CLUSTER)
        source, target = cluster.begin_to_move("")
        counters = RedisCounters(SharedRedis(url, 10))
        assert counters.consume([CHECK], lookup=LOOKUP)[0].remaining == 99
        revoke(url)
        cluster.end_to_move("", source, target)
        share_documents(url)
        share_status(url)
        assert counters.consume([CHECK], lookup=LOOKUP)[0].remaining == 98
        for missing in CLUSTER:
            source, target = cluster.begin_to_move("x")
            for node in cluster.nodes:
                grant(node, *CLUSTER_KEYS, *COUNTING, *(right for right in CLUSTER if right != missing))
            with pytest.raises(NoPermissionError):
                RedisCounters(SharedRedis(url, 10)).consume([CHECK], partition_key="x")
            cluster.end_to_move("x", source, target)
