"""Builds the library and what keeps it fresh, by the configuration."""

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

# No request waits for this.
REDIS_PATIENCE_SECONDS = 5.0


def make_catalog(
    settings: Settings, policies: Sequence[RoutePolicy], make_keeper: Callable[..., DocumentRefresher]
) -> tuple[Catalog, DocumentRefresher]:
    """The services' documents, empty as yet, and what fetches them once somebody asks for it. Raises
    ConfigurationError for certificates that can't be used."""
    sources = make_sources(settings, policies)
    watched = list(dict.fromkeys(policy.service for policy in policies if policy.undocumented != "allow"))
    limits = settings.ratelimit
    facts = GatewayFacts(
        title=settings.docs.title,
        limits_enabled=limits.enabled,
        default_limit=limits.default,
        anonymous_limit=limits.anonymous,
        stripped_headers=settings.jwt.identity_fields | (TRACE_HEADERS if settings.tracing.propagate else frozenset()),
        token_cookie=settings.jwt.cookie,
    )
    catalog = Catalog(sources, facts, watched)
    redis = SharedRedis.configured(settings, REDIS_PATIENCE_SECONDS)
    store = DocumentStore(redis) if redis is not None else None
    fetched = {name: source for name, source in sources.items() if source.has_document}
    refresher = make_keeper(fetched, store, settings.docs.refresh_seconds, catalog.update, time.time, random.random)
    return catalog, refresher
