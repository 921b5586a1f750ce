"""`/.well-known/jwks.json`: the public keys with which services verify the identity that the gateway signs."""

from __future__ import annotations

from flask import Blueprint

from gateway.responses import GatewayResponse, json_response
from gateway.tokens.identity_signer import IdentitySigner

CACHE_CONTROL = "public, max-age=300"


def identity_blueprint(signer: IdentitySigner) -> Blueprint:
    blueprint = Blueprint("gateway-identity", __name__)

    def key_set() -> GatewayResponse:
        return json_response(signer.key_set, cache_control=CACHE_CONTROL)

    blueprint.add_url_rule("/.well-known/jwks.json", "key_set", key_set)
    return blueprint
