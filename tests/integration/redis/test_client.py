"""A Redis that is shared with other programs: all of the gateway's keys have a prefix. Its URL may be in a mounted
file."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.rate_limiting.models import LimitCheck, RevocationLookup
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.redis.client import SharedRedis
from gateway.tokens.revocation import Revocations
from tests.support.commands import flask
from tests.support.gateway import GatewayProcess, four_services
from tests.support.redis import wait_until
from tests.support.redis_node import Node
from tests.support.redis_sets import Cluster
from tests.support.tokens import SECRET, bearer, signed
from tests.support.upstream import ScriptedUpstream

OTHER_SECRET = "another-secret-of-more-than-32-bytes"
PREFIX = "shop:"


@pytest.fixture(scope="module")
def server() -> Iterator[Node]:
    with ExitStack() as stack:
        node = Node([])
        stack.callback(node.end)
        node.start()
        wait_until(node.answers, "the server answers")
        # Redis refuses all commands that name keys without the prefix.
        rights = ["on", ">a-secret", "resetchannels", f"~{PREFIX}gateway:*", "+@all", "-@dangerous"]
        node.ask("ACL", "SETUSER", "shop", "reset", *rights)
        yield node


@pytest.fixture(scope="module")
def settings(module_upstream: ScriptedUpstream) -> dict[str, Any]:
    return {**four_services(module_upstream.url), "redis_prefix": PREFIX, "redis_timeout_seconds": 1.0}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory, server: Node) -> Path:
    """A folder of secrets in the form in which container platforms mount it."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "redis").write_text(f"redis://shop:a-secret@127.0.0.1:{server.port}/0\n")
    (folder / "jwt").write_text(f"{SECRET}\n")
    return folder


@pytest.fixture(scope="module")
def environ(secrets: Path) -> dict[str, str]:
    return {"GATEWAY_REDIS_URL_FILE": str(secrets / "redis"), "GATEWAY_JWT__SECRET_FILE": str(secrets / "jwt")}


@pytest.fixture(scope="module")
def sharing(
    start_gateway: Callable[..., GatewayProcess], settings: dict[str, Any], environ: dict[str, str]
) -> GatewayProcess:
    return start_gateway(settings, environ={**environ, "GATEWAY_JWT__SECRET": None})


def run_flask(*words: str, settings: dict[str, Any], environ: dict[str, str]) -> str:
    limits = {"ratelimit": {"default": "1000000/minute"}}
    return flask(*words, settings={**settings, **limits}, environ=environ, without=["GATEWAY_JWT__SECRET"])


def test_all_keys_have_the_prefix(
    sharing: GatewayProcess, server: Node, settings: dict[str, Any], environ: dict[str, str]
) -> None:
    """Applies to counters, documents, status and revocations: the gateway's Redis user has no permission for other
    keys."""
    assert sharing.get("/api/devices", bearer(sub="ada")).value("X-RateLimit-Remaining") == "999999"
    sharing.get("/openapi.json")
    run_flask("revoke", "--sub", "bob", settings=settings, environ=environ)
    assert sharing.get("/api/devices", bearer(sub="bob")).status == 401
    assert "bob" in run_flask("revoked", settings=settings, environ=environ)
    rows = [line.split()[:5] for line in run_flask("quota", "ada", settings=settings, environ=environ).splitlines()]
    assert ["default", "1000000/minute", "principal", "1", "1000000"] in rows

    def kinds() -> set[str]:
        return {key.decode().removeprefix(PREFIX).split(":")[1] for key in server.ask("KEYS", "*")}

    sharing.wait_until(lambda: kinds() >= {"quota", "revoked", "status", "documents"}, "write all kinds of keys")
    assert all(key.decode().startswith(f"{PREFIX}gateway:") for key in server.ask("KEYS", "*"))
    assert "Redis fails" not in sharing.output()


def test_each_prefix_has_its_own_counters(server: Node) -> None:
    url = f"redis://127.0.0.1:{server.port}/0"
    one, other = (RedisCounters(SharedRedis(url, 10, prefix)) for prefix in ("one:", "one:b:"))
    for _ in range(2):
        assert one.consume([LimitCheck("ada", 2, 86400)])[0].passed
    assert other.consume([LimitCheck("ada", 2, 86400)])[0].passed
    # Clearing all counters with one prefix leaves the counters with the other prefix.
    assert (one.clear_all(), other.clear_all()) == (1, 1)


def test_keys_of_one_request_are_on_one_cluster_node() -> None:
    with Cluster() as cluster:
        cluster.start()
        redis = SharedRedis(cluster.url, 10, PREFIX)
        counters, revocations = RedisCounters(redis), Revocations(redis, 60)
        revocations.revoke_subject("ada", "")
        for caller in range(20):
            lookup = RevocationLookup([f"gateway:revoked:sub:{caller}"])
            checks = [LimitCheck(f"{caller}", 5, 86400), LimitCheck(f"{caller}", 9, 3600)]
            # The keys of a call must be in one slot: Redis refuses others (CROSSSLOT).
            assert [one.passed for one in counters.consume(checks, lookup=lookup, partition_key=f"{caller}")] == [
                True,
                True,
            ]
        keys = list(redis.scan("*"))
        assert len(keys) >= 40
        assert all(key.startswith(f"{PREFIX}{{") for key in keys)
        assert len(list(revocations.list_all())) == 1
        redis.close()


def test_a_reload_reads_the_files_again(sharing: GatewayProcess, secrets: Path) -> None:
    own, new = bearer(), ("Authorization", f"Bearer {signed(key=OTHER_SECRET)}")
    assert [sharing.get("/api/devices", one).status for one in (own, new)] == [200, 401]
    (secrets / "jwt").write_text(f"{OTHER_SECRET}\r\n")
    old = sharing.worker_pids()
    sharing.process.send_signal(signal.SIGHUP)
    sharing.wait_until(lambda: not set(old) & set(sharing.worker_pids()), "replace its workers")
    assert [sharing.get("/api/devices", one).status for one in (own, new)] == [401, 200]
    # A reload without the file is refused, and the old configuration stays in force.
    (secrets / "jwt").unlink()
    sharing.process.send_signal(signal.SIGHUP)
    sharing.wait_until(lambda: "not reloaded: jwt.secret_file: can't read" in sharing.output(), "refuse the reload")
    assert sharing.get("/api/devices", new).status == 200
