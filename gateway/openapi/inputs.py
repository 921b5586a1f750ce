"""The inputs of the merged document: one `ServiceDocument` per service, and the facts about the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.route_policy import RoutePolicy


@dataclass(frozen=True, slots=True)
class ServiceDocument:
    """A service and its API document."""

    name: str
    prefix: str
    # The policies of this service only, in the order of `route_policy.service_policies`.
    policies: tuple[RoutePolicy, ...]
    # As `parse_document` returns it; None if no document was ever fetched.
    document: Mapping[str, Any] | None = None
    strip_prefix: bool = False
    # The prefix that the service itself has in place of `prefix`. If it is None, paths below any of the additional
    # `prefixes` are paths of the service, too.
    target_prefix: str | None = None
    prefixes: tuple[str, ...] = ()
    # The ISO 8601 time since which the document could not be refreshed; None if it is current.
    stale_since: str | None = None
    # Patterns of paths that the merged document does not show. Requests for them still go to this service. So do the
    # requests for a hidden service.
    hidden_paths: tuple[str, ...] = ()
    hidden: bool = False
    # False if the service is configured to have no document.
    has_document: bool = True
    # The service's own paths that the gateway itself requests: health check and document.
    internal_paths: tuple[str, ...] = ()
    # The service's setting of this name: which disagreements `flask drift` does not report.
    drift_ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """The facts about the gateway that the merged document depends on."""

    title: str = "API gateway"
    version: str = "1"
    limits_enabled: bool = True
    # The limits of `[ratelimit]`, for policies without limits of their own.
    default_limit: str = "300/minute"
    anonymous_limit: str = "60/minute"
    # Header fields that the gateway sets itself, so services never receive a client's value. Letter case makes no
    # difference. Header fields that the gateway never forwards need not be listed.
    stripped_headers: frozenset[str] = frozenset()
    # The cookie that may contain the token.
    token_cookie: str | None = None
