"""Is it alive, is it ready: for load balancers and orchestrators."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint

from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.responses import GatewayResponse, json_response
from gateway.system.flags import SharedFlag
from gateway.tokens.issuer import Issuer


def health_blueprint(rate_limiter: FallbackLimiter, issuers: Sequence[Issuer], end: SharedFlag) -> Blueprint:
    blueprint = Blueprint("gateway", __name__)

    def healthz() -> GatewayResponse:
        """Alive: no I/O, nothing looked up."""
        return json_response({"status": "alive"})

    def readyz() -> GatewayResponse:
        """Ready: the configuration is loaded, or this would not be running, keys are at hand, and the gateway is not
        about to end. Redis' state is told, and is no reason to take the gateway out: quotas go on without it."""
        rate_limiter.is_reachable()
        # Of all of them, not of the first one that is: asking is what starts the loading.
        loaded = [issuer.keys.is_ready for issuer in issuers]
        is_ready = any(loaded) and not end.is_raised
        state = {
            "status": "ending" if end.is_raised else "ready" if is_ready else "not ready",
            "redis": rate_limiter.state,
            "keys": "ok" if all(loaded) else "some never loaded" if any(loaded) else "never loaded",
        }
        return json_response(state, 200 if is_ready else 503)

    blueprint.add_url_rule("/healthz", "healthz", healthz)
    blueprint.add_url_rule("/readyz", "readyz", readyz)
    return blueprint
