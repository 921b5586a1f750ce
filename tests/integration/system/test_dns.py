"""A name server that hangs delays only those requests that need it, and these only up to their deadline."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Reply
from tests.support.gateway import GatewayProcess, gateways
from tests.support.redis import RedisServer
from tests.support.sockets import deafen, end_all
from tests.support.upstream import ScriptedUpstream

# More concurrent lookups than gevent has threads for.
CROWD = 24


@pytest.fixture
def hangs_while(tmp_path: Path) -> Path:
    file = tmp_path / "names-hang"
    file.touch()
    return file


@pytest.fixture
def start(hangs_while: Path) -> Iterator[Callable[..., GatewayProcess]]:
    with gateways() as start_with:

        def start(services: dict[str, Any], **environ: str) -> GatewayProcess:
            return start_with(
                {"services": services, "default_services": False},
                workers=1,
                environ={"NAMES_HANG_WHILE": str(hangs_while), **environ},
                application="tests.support.slow_names:app",
            )

        yield start
        # Lets the lookups end, because their threads would delay the exit of the gateway.
        hangs_while.unlink(missing_ok=True)


def service(name: str, url: str) -> dict[str, Any]:
    return {"prefix": f"/{name}", "targets": [url], "auth": "none", "connect_timeout_seconds": 1, "retries": 0} | {
        "keepalive_connections": 0,
        "breaker": {"failures": 0},
    }


def ask_together(gateway: GatewayProcess, path: str, count: int) -> list[Reply]:
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(gateway.get(path))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies


def test_a_lookup_beyond_the_deadline_is_a_504_and_does_not_delay_other_services(
    start: Callable[..., GatewayProcess], upstream: ScriptedUpstream, hangs_while: Path
) -> None:
    gateway = start(
        {
            "slow": service("slow", f"http://a.slow.test:{upstream.port}"),
            "named": service("named", f"http://localhost:{upstream.port}"),
            "numbered": service("numbered", upstream.url),
            "several": service("several", f"http://two.several.test:{upstream.port}"),
        }
    )
    crowd = threading.Thread(target=lambda: replies.extend(ask_together(gateway, "/slow", CROWD)))
    replies: list[Reply] = []
    crowd.start()
    others = [gateway.get(path).status for path in ("/named", "/numbered", "/metrics", "/status")]
    crowd.join()
    assert others == [200] * 4
    assert [(reply.status, reply.value("X-Gateway-Error")) for reply in replies] == [(504, "upstream_timeout")] * CROWD
    # Although the lookups still hang, all requests are logged.
    gateway.wait_until(lambda: len(gateway.access_log()) == CROWD + 4, "log all")
    assert [gateway.get(path).status for path in ("/named", "/numbered", "/metrics", "/status")] == [200] * 4
    assert hangs_while.exists()
    hangs_while.unlink()
    gateway.wait_until(lambda: gateway.get("/slow").status == 200, "reach it")
    # The first address neither accepts nor refuses connections. The second one is tried long before the deadline.
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", upstream.port))
        filling = deafen(listener)
        assert gateway.get("/several").status == 200
        end_all(filling)


def test_a_redis_whose_lookup_hangs_counts_as_failed(
    start: Callable[..., GatewayProcess], upstream: ScriptedUpstream, hangs_while: Path
) -> None:
    with RedisServer(tcp=True) as redis:
        url = redis.url.replace("127.0.0.1", "redis.slow.test")
        gateway = start({"numbered": service("numbered", upstream.url)}, REDIS_URL=url)
        replies = ask_together(gateway, "/numbered", CROWD)
        assert {reply.status for reply in replies} == {200}
        gateway.wait_until(lambda: is_down(gateway), "notice")
        assert hangs_while.exists()
        hangs_while.unlink()
        gateway.wait_until(lambda: gateway.get("/numbered").status == 200 and not is_down(gateway), "reach it")


def is_down(gateway: GatewayProcess) -> bool:
    return "gateway_redis_down 1" in gateway.get("/metrics").body.decode()
