"""What gunicorn's master does beside its own work: it says that it ends, and sees to its private Redis.

It has no hooks for either, so its methods are put inside others.
"""

from __future__ import annotations

from typing import Any

from gateway.redis.embedded import EmbeddedRedis
from gateway.system.ending import GATEWAY_END


def announce_end_of(server: Any) -> None:
    """Has gunicorn's master say that it ends before it tells its workers to."""
    stop = server.stop

    def announce_and_stop(graceful: bool = True) -> None:
        if graceful:
            GATEWAY_END.announce()
        stop(graceful)

    server.stop = announce_and_stop


def see_to(redis: EmbeddedRedis, server: Any) -> None:
    """Has the master start its private Redis again where that has ended: it looks each second, and at once when a child
    of its ends."""
    manage_workers = server.manage_workers

    def revive_and_manage() -> None:
        redis.revive()
        manage_workers()

    server.manage_workers = revive_and_manage
