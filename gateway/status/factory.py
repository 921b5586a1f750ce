"""Assembles the parts of the status document from the settings."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from gateway.config import Settings
from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.redis.client import SharedRedis
from gateway.status.document import StatusDocument, configuration_tag
from gateway.status.publisher import Publisher, StatusStore
from gateway.status.redaction import names_not_default, redacted_configuration
from gateway.status.rolling_stats import RollingStats
from gateway.status.service_documents import ServiceDocuments
from gateway.status.worker_state import WorkerState
from gateway.tokens.issuer import Issuer

# Longer than the timeout of requests: only the background thread and readers of the page wait for this client.
REDIS_TIMEOUT_SECONDS = 1.0


def make_status(
    settings: Settings,
    rolling_stats: RollingStats,
    rate_limiter: FallbackLimiter,
    issuers: Sequence[Issuer],
    documents: ServiceDocuments,
) -> tuple[StatusDocument, WorkerState]:
    """Returns the document, and the worker state, to which the services must be added later."""
    configuration = redacted_configuration(settings)
    state = WorkerState(rolling_stats, rate_limiter, issuers, configuration_tag(configuration), time.time)
    publisher = None
    if (redis := SharedRedis.configured(settings, REDIS_TIMEOUT_SECONDS)) is not None:
        publisher = Publisher(StatusStore(redis, time.time), state, rolling_stats, random.random)
    not_default = names_not_default(settings)
    document = StatusDocument(state, rolling_stats, publisher, documents, configuration, not_default, time.time)
    return document, state
