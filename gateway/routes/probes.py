"""`/healthz` and `/readyz`, for load balancers and orchestrators."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint

from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.responses import GatewayResponse, json_response
from gateway.system.shared_flag import SharedFlag
from gateway.tokens.issuer import Issuer


def health_blueprint(rate_limiter: FallbackLimiter, issuers: Sequence[Issuer], end: SharedFlag) -> Blueprint:
    blueprint = Blueprint("gateway", __name__)

    def healthz() -> GatewayResponse:
        """Alive: responds without any I/O."""
        return json_response({"status": "alive"})

    def readyz() -> GatewayResponse:
        """Ready: keys are loaded, and the gateway is not shutting down. (The configuration is loaded, or the gateway
        would not run.) The state of Redis is reported, but does not count: limits are enforced without Redis, too."""
        rate_limiter.is_reachable()
        # A list, so that `is_ready` of every issuer is read: reading it starts the loading of its keys.
        loaded = [issuer.keys.is_ready for issuer in issuers]
        is_ready = any(loaded) and not end.is_set
        state = {
            "status": "ending" if end.is_set else "ready" if is_ready else "not ready",
            "redis": rate_limiter.state,
            "keys": "ok" if all(loaded) else "some never loaded" if any(loaded) else "never loaded",
        }
        return json_response(state, 200 if is_ready else 503)

    blueprint.add_url_rule("/healthz", "healthz", healthz)
    blueprint.add_url_rule("/readyz", "readyz", readyz)
    return blueprint
