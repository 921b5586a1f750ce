"""Connects a command to the Redis that the gateways share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.cli.output import CouldNotRun
from gateway.config import Settings
from gateway.config.load import instance_folder
from gateway.redis.client import FAILURES, SharedRedis
from gateway.redis.private_server import find_private_redis

# Longer than redis_timeout_seconds, because no request waits for these calls.
TIMEOUT_SECONDS = 5.0


@contextmanager
def shared_redis(settings: Settings) -> Iterator[SharedRedis]:
    """The configured Redis, or else the private one of the gateway on this machine. Raises CouldNotRun if there is
    neither, or if Redis fails."""
    addresses = ", ".join(settings.server.addresses)
    private = None if settings.redis_url else find_private_redis(settings.server.addresses, instance_folder())
    url = settings.redis_url.get_secret_value() if settings.redis_url else private
    if url is None:
        raise CouldNotRun(f"redis_url: is not set, and no gateway with a private Redis listens at {addresses}")
    redis = SharedRedis(url, TIMEOUT_SECONDS, settings.redis_prefix)
    try:
        yield redis
    except FAILURES as error:
        failure = f"is not set, and the private Redis of the gateway at {addresses} fails" if private else "fails"
        raise CouldNotRun(f"redis_url: {failure}: {error}") from error
    finally:
        redis.close()
