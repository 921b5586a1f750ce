"""Redis for commands: the one that gateways share, asked patiently."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from gateway.config import Settings
from gateway.redis.client import FAILURES, SharedRedis

# People wait longer than requests may.
PATIENCE_SECONDS = 5.0


@contextmanager
def shared_redis(settings: Settings) -> Iterator[SharedRedis]:
    """The configured Redis. Raises ClickException where there is none or it fails."""
    if settings.redis_url is None:
        raise click.ClickException("redis_url: is not set; this needs the Redis that the gateways share")
    redis = SharedRedis(settings.redis_url.get_secret_value(), PATIENCE_SECONDS)
    try:
        yield redis
    except FAILURES as error:
        raise click.ClickException(f"Redis fails: {error}") from error
    finally:
        redis.close()
