"""Work in native threads, beside the greenlets that serve requests."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gateway.routes.docs.views import ASSETS
from gateway.status.publisher import PREFIX
from tests.support.documented import Documented, answer, document, settings_for, states
from tests.support.gateway import GatewayProcess
from tests.support.redis import RedisServer
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream, answering

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def test_native_threads_use_no_lock_of_gevent(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream, server: RedisServer
) -> None:
    """The locks of imports and of logging are gevent's. Native threads that wait for them can deadlock: four documents
    that were parsed at the same time, right after the start, were never finished."""
    service = Documented(upstream)
    # In addition to a JSON and a YAML document, the upstream has documents that can't be parsed.
    upstream.at["/openapi.json"] = answering(answer(BYTE_ORDER_MARK + b"\xff: ["))
    with server.client() as redis:
        redis.zadd(f"{PREFIX}workers", {"another": 2e9})
        redis.set(f"{PREFIX}now:another", "not a report")
    gateway = start_gateway(
        settings_for(service, undocumented="log"),
        workers=1,
        environ={"REDIS_URL": server.url},
        application="tests.support.lock_watch:app",
    )
    assert states(gateway)["devices"] == "current"
    assert document(gateway, "/openapi/rules.json")["openapi"]
    paths = [*(f"/docs/{name}" for name in ASSETS), "/docs", "/docs/services.json", "/status", "/metrics"]
    replies = []
    threads = [threading.Thread(target=lambda path=path: replies.append(gateway.get(path))) for path in paths * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {reply.status for reply in replies} == {200}
    assert gateway.get("/api/devices/x/y", bearer()).status == 200
    gateway.wait_for_log(lambda line: line["undocumented"] is True)
    taken = gateway.output().partition("A lock was acquired outside of the main thread:")[2]
    assert not taken, taken[:3000]
