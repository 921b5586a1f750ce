"""What is for operators alone: `/metrics` and `/status`."""

from __future__ import annotations

import logging
from ipaddress import ip_address, ip_network

from flask import Blueprint

from gateway import context
from gateway.config import AdminSettings
from gateway.context import Exchange
from gateway.errors import NoRoute
from gateway.proxy.header_filter import is_set_by_proxies
from gateway.responses import GatewayResponse, content_response
from gateway.routes.status.views import add_status
from gateway.stages.host_check import ServedHosts
from gateway.status.document import StatusDocument
from gateway.telemetry.metrics.registry import CONTENT_TYPE, Metrics

log = logging.getLogger(__name__)


def admin_blueprint(
    operators: OperatorsOnly, hosts: ServedHosts, metrics: Metrics, status: StatusDocument
) -> Blueprint:
    blueprint = Blueprint("gateway-admin", __name__)
    blueprint.before_request(operators.check)
    # Behind the addresses: strangers are not to learn from a 421 that there is something.
    blueprint.before_request(hosts.check_operators)

    def exposition() -> GatewayResponse:
        return content_response(metrics.exposition(), CONTENT_TYPE)

    blueprint.add_url_rule("/metrics", "metrics", exposition)
    add_status(blueprint, status)
    return blueprint


class NotAnOperator(Exception):
    """Why somebody gets a 404. The text is for the log."""


class OperatorsOnly:
    """Lets in whose own address is allowed. Everyone else gets 404, as if the path did not exist; the log says why."""

    def __init__(self, settings: AdminSettings) -> None:
        self._networks = [ip_network(network) for network in settings.allow]
        self._has_logged = False

    def check(self) -> None:
        """Raises NoRoute."""
        try:
            self._check(context.current())
        except NotAnOperator as reason:
            if not self._has_logged:
                # Once in each worker; the access log has all of them.
                self._has_logged = True
                log.warning("/status and /metrics are a 404 to some who asked: %s", reason)
            raise NoRoute() from reason

    def would_let_in(self) -> bool:
        """Whether whoever sent the request at hand could see what is for operators."""
        try:
            self._check(context.current())
        except NotAnOperator:
            return False
        return True

    def _check(self, exchange: Exchange) -> None:
        """Raises NotAnOperator."""
        # The gateway's own page is of its origin. A page of another one may read answers where [cors] lets it, but asks
        # with the address of whoever looks at it.
        if any(name.lower() == "origin" for name, _ in exchange.headers):
            raise NotAnOperator("a page of another origin asked")
        # Through a proxy everybody has its address; then the client's own counts, which must be one that is believed.
        is_forwarded = any(is_set_by_proxies(name) for name, _ in exchange.headers)
        client = exchange.client
        for address in (client.peer, client.address):
            if not self._is_allowed(address):
                raise NotAnOperator(f"admin.allow does not have {address}")
        if is_forwarded and client.address == client.peer:
            raise NotAnOperator("a proxy passed it on, and proxy.trusted_hops does not say whose address to believe")

    def _is_allowed(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._networks)
