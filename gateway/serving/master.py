"""What gunicorn's master does beside its own work: it says that it ends, goes on without a worker that it can't have at
the moment, and sees to its private Redis.

It has no hooks for that, so its methods are put inside others.
"""

from __future__ import annotations

from typing import Any

from gateway.config.load import instance_folder
from gateway.redis.embedded import EmbeddedRedis, note_file
from gateway.system.ending import GATEWAY_END


def announce_end_of(server: Any) -> None:
    """Has gunicorn's master say that it ends before it tells its workers to."""
    stop = server.stop

    def announce_and_stop(graceful: bool = True) -> None:
        if graceful:
            GATEWAY_END.hoist()
        stop(graceful)

    server.stop = announce_and_stop


def go_on_without_a_process(server: Any) -> None:
    """Has the master try again a second later where the system has no process to give. It would end otherwise, and all
    its workers with it."""
    spawn_worker = server.spawn_worker

    def try_to_spawn() -> None:
        try:
            spawn_worker()
        except OSError as error:
            server.log.error("a worker can't be started now: %s", error.strerror)

    server.spawn_worker = try_to_spawn


def see_to(redis: EmbeddedRedis, server: Any) -> None:
    """Has the master start its private Redis again where that has ended: it looks each second, and at once when a child
    of its ends."""
    manage_workers = server.manage_workers

    def revive_and_manage() -> None:
        redis.revive()
        manage_workers()

    server.manage_workers = revive_and_manage


def note_private_redis(server: Any) -> None:
    """Tells commands where the private Redis is, by each address that is listened at. Not before it is: a gateway that
    finds its port taken must not take the other one's place."""
    if redis := getattr(server, "embedded_redis", None):
        redis.note([note_file(instance_folder(), bind) for bind in server.cfg.bind])
