"""Builds what stands behind `/status`, by the configuration."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from gateway.config import Settings
from gateway.redis.client import SharedRedis
from gateway.status.document import StatusDocument, tag_of
from gateway.status.publisher import Sharing, StatusStore
from gateway.status.redaction import masked_configuration, names_not_default
from gateway.status.rolling_stats import RollingStats
from gateway.status.service_documents import DocumentsWatch
from gateway.status.worker_state import RedisUser, WorkerState
from gateway.tokens.issuer import Issuer

# Only who looks at the page waits for this.
REDIS_PATIENCE_SECONDS = 1.0


def make_status(
    settings: Settings,
    recent: RollingStats,
    rate_limiter: RedisUser,
    issuers: Sequence[Issuer],
    documents: DocumentsWatch,
) -> tuple[StatusDocument, WorkerState]:
    """The desk, and the place where the services are to be added."""
    configuration = masked_configuration(settings)
    present = WorkerState(recent, rate_limiter, issuers, tag_of(configuration), time.time)
    store = sharing = None
    if (redis := SharedRedis.configured(settings, REDIS_PATIENCE_SECONDS)) is not None:
        store = StatusStore(redis, time.time)
        sharing = Sharing(store, present.worker, present.report, recent.finished, random.random)
    changed = names_not_default(settings)
    return StatusDocument(present, recent, store, sharing, documents, configuration, changed, time.time), present
