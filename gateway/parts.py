"""Which classes the parts are made of that reach beyond the process: `flask explain` has others that only look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.documents.keeper import DocumentKeeper
from gateway.limits.ladder import Ladder
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.health_checks import HealthChecks
from gateway.tokens.issuer import Issuer
from gateway.tokens.issuers import make_issuers


@dataclass(frozen=True, slots=True)
class Parts:
    """Each is called as the class, or function, that stands here."""

    issuers: Callable[..., list[Issuer]] = make_issuers
    ladder: Callable[..., Ladder] = Ladder
    keeper: Callable[..., DocumentKeeper] = DocumentKeeper
    health_checks: Callable[..., HealthChecks] = HealthChecks
    forwarder: Callable[..., Forwarder] = Forwarder


REAL = Parts()
