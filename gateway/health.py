"""Is it alive, is it ready: for load balancers and orchestrators."""

from __future__ import annotations

import json

from flask import Blueprint

from gateway.limits.ladder import Ladder
from gateway.responses import GatewayResponse


def health_blueprint(ladder: Ladder) -> Blueprint:
    blueprint = Blueprint("gateway", __name__)

    def healthz() -> GatewayResponse:
        """Alive: no I/O, nothing looked up."""
        return json_response({"status": "alive"})

    def readyz() -> GatewayResponse:
        """Ready: configuration and keys are at hand, or this would not be running. Redis' state is told, and is no
        reason to take the gateway out: quotas go on without it."""
        ladder.is_reachable()
        return json_response({"status": "ready", "redis": ladder.state})

    blueprint.add_url_rule("/healthz", "healthz", healthz)
    blueprint.add_url_rule("/readyz", "readyz", readyz)
    return blueprint


def json_response(document: object) -> GatewayResponse:
    body = json.dumps(document).encode()
    response = GatewayResponse([body])
    response.headers.extend(
        [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    )
    return response
