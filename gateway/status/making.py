"""Builds what stands behind `/status`, by the configuration."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from gateway.config import Settings
from gateway.redis.client import SharedRedis
from gateway.status.desk import StatusDesk, tag_of
from gateway.status.documents import DocumentsWatch
from gateway.status.masking import masked_configuration, names_not_default
from gateway.status.present import Present, RedisUser
from gateway.status.recent import Recent
from gateway.status.sharing import Sharing, StatusStore
from gateway.tokens.issuer import Issuer

# Only who looks at the page waits for this.
REDIS_PATIENCE_SECONDS = 1.0


def make_status(
    settings: Settings, recent: Recent, ladder: RedisUser, issuers: Sequence[Issuer], documents: DocumentsWatch
) -> tuple[StatusDesk, Present]:
    """The desk, and the place where the services are to be added."""
    configuration = masked_configuration(settings)
    present = Present(recent, ladder, issuers, tag_of(configuration), time.time)
    store = sharing = None
    if (redis := SharedRedis.configured(settings, REDIS_PATIENCE_SECONDS)) is not None:
        store = StatusStore(redis, time.time)
        sharing = Sharing(store, present.worker, present.report, recent.finished, random.random)
    changed = names_not_default(settings)
    return StatusDesk(present, recent, store, sharing, documents, configuration, changed, time.time), present
