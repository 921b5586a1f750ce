"""The parts of the application that have effects outside the process. `flask explain` replaces them for a dry run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.api_documents.refresher import DocumentRefresher
from gateway.proxy.forwarder import Forwarder
from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.tokens.issuer import Issuer
from gateway.tokens.issuer_factory import make_issuers


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Factories of these parts. A replacement takes the same arguments as the default."""

    issuers: Callable[..., list[Issuer]] = make_issuers
    rate_limiter: Callable[..., FallbackLimiter] = FallbackLimiter
    refresher: Callable[..., DocumentRefresher] = DocumentRefresher
    forwarder: Callable[..., Forwarder] = Forwarder


DEFAULTS = Dependencies()
