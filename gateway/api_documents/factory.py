"""Builds the catalog of documents and its refresher from the configuration."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from gateway.api_documents.catalog import Catalog
from gateway.api_documents.refresher import DocumentRefresher
from gateway.api_documents.sources import make_sources
from gateway.api_documents.store import DocumentStore
from gateway.config import Settings
from gateway.openapi import GatewayFacts
from gateway.redis.client import SharedRedis
from gateway.route_policy import RoutePolicy
from gateway.trace_context import TRACE_HEADERS

# Longer than redis_timeout_seconds, because no request waits for these calls.
REDIS_TIMEOUT_SECONDS = 5.0


def make_catalog(
    settings: Settings, policies: Sequence[RoutePolicy], make_refresher: Callable[..., DocumentRefresher]
) -> tuple[Catalog, DocumentRefresher]:
    """The catalog, still empty, and the refresher that fills it once a document is requested. Raises ConfigurationError
    for invalid certificates."""
    sources = make_sources(settings, policies)
    checked_services = {policy.service for policy in policies if policy.undocumented != "allow"}
    limits = settings.ratelimit
    facts = GatewayFacts(
        title=settings.docs.title,
        limits_enabled=limits.enabled,
        default_limit=limits.default,
        anonymous_limit=limits.anonymous,
        stripped_headers=settings.jwt.identity_fields | (TRACE_HEADERS if settings.tracing.propagate else frozenset()),
        token_cookie=settings.jwt.cookie,
    )
    catalog = Catalog(sources, facts, checked_services)
    redis = SharedRedis.configured(settings, REDIS_TIMEOUT_SECONDS)
    store = DocumentStore(redis) if redis is not None else None
    with_document = {name: source for name, source in sources.items() if source.has_document}
    refresher = make_refresher(
        with_document, store, settings.docs.refresh_seconds, catalog.update, time.time, random.random
    )
    return catalog, refresher
