"""What the merged document is made of: one part per service, and the facts about the gateway that all share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.route_policy import RoutePolicy


@dataclass(frozen=True, slots=True)
class ServiceDocument:
    """A service and what is known of its API.

    `policies` are all of the service's own, as `policies.service_policies` gives them. `document` is what
    `reading.read` returned, None where none was ever read; `stale_since` is the ISO time since when it could not be
    renewed. `target_prefix` is what the service knows in the place of `prefix`; where there is none, paths below
    `prefixes`, its further ones, are its own, too. `has_document` is False for a service that is configured to have
    none. Clients are not told of what
    `hidden_paths` match, nor of a `hidden` service; both still own their paths. `internal_paths` are those of the
    service's own paths that the gateway itself asks for; `drift_ignore` is as it is configured."""

    name: str
    prefix: str
    policies: tuple[RoutePolicy, ...]
    document: Mapping[str, Any] | None = None
    strip_prefix: bool = False
    target_prefix: str | None = None
    prefixes: tuple[str, ...] = ()
    title: str | None = None
    stale_since: str | None = None
    hidden_paths: tuple[str, ...] = ()
    hidden: bool = False
    has_document: bool = True
    internal_paths: tuple[str, ...] = ()
    drift_ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """What the document says of the gateway itself. The limits are the texts of `[ratelimit]`, which hold where a
    policy has none. `stripped_headers`, in any case, are fields that the gateway sets from the token or by itself, so
    that clients can't send them to a service; those that it never forwards need not be named. `token_cookie` is the
    cookie that may bring the token."""

    title: str = "API gateway"
    version: str = "1"
    description: str = ""
    limits_enabled: bool = True
    default_limit: str = "300/minute"
    anonymous_limit: str = "60/minute"
    stripped_headers: frozenset[str] = frozenset()
    token_cookie: str | None = None
