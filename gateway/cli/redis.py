"""Redis for commands: the one that gateways share, asked patiently."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from gateway.config import Settings
from gateway.config.load import instance_folder
from gateway.redis.client import FAILURES, SharedRedis
from gateway.redis.embedded import note_file, noted_url

# People wait longer than requests may.
PATIENCE_SECONDS = 5.0


@contextmanager
def shared_redis(settings: Settings) -> Iterator[SharedRedis]:
    """The configured Redis, else the private one of the gateway that runs here. Raises ClickException where there is
    none or it fails."""
    bind = settings.server.bind
    private = None if settings.redis_url else noted_url(note_file(instance_folder(), bind))
    url = settings.redis_url.get_secret_value() if settings.redis_url else private
    if url is None:
        raise click.ClickException(f"redis_url: is not set, and no gateway with a private Redis listens at {bind}")
    redis = SharedRedis(url, PATIENCE_SECONDS)
    try:
        yield redis
    except FAILURES as error:
        which = f"is not set, and the private one of the gateway at {bind} fails" if private else "fails"
        raise click.ClickException(f"redis_url: {which}: {error}") from error
    finally:
        redis.close()
