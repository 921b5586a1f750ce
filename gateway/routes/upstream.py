"""The blueprint of a service: its URL rules, its guards and the view that forwards requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint

from gateway import context
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.header_filter import max_forwards
from gateway.responses import GatewayResponse
from gateway.route_policy import RoutePolicy
from gateway.stages.start import forward_request_of
from gateway.url_rules import ANY_METHOD, rules_of


def service_blueprint(
    name: str,
    policies: Iterable[RoutePolicy],
    forwarder: Forwarder,
    guards: Iterable[Callable[[], None]],
    clock: Callable[[], float],
) -> Blueprint:
    """A blueprint with the rules of one service, one or two for each policy. `guards` run in their order before a
    request is forwarded; a guard that refuses a request raises a GatewayError."""
    blueprint = Blueprint(name, __name__)
    for guard in guards:
        blueprint.before_request(guard)

    def forward(**_: str) -> GatewayResponse:
        exchange = context.current()
        if exchange.method == "OPTIONS" and max_forwards(exchange.headers) == 0:
            # The request is addressed to this hop, which is the gateway (RFC 9110 7.6.2).
            return GatewayResponse(status=204)
        started = clock()
        try:
            answer = forwarder.forward(forward_request_of(exchange))
            exchange.is_stream = answer.body.is_stream
            try:
                return GatewayResponse.of(answer.body, answer.status, answer.reason, answer.headers)
            except BaseException:
                answer.body.close()
                raise
        finally:
            exchange.upstream_seconds = clock() - started

    for policy in policies:
        label = policy.name.partition(".")[2]
        *below, at = rules_of(policy)
        options: dict[str, Any] = {
            "methods": policy.methods or (ANY_METHOD,),
            "policy": policy,
            "provide_automatic_options": False,
        }
        for rule in below:
            blueprint.add_url_rule(rule, f"{label}_below" if label else "everything_below", forward, **options)
        blueprint.add_url_rule(at, label or "prefix", forward, **options)
    return blueprint
