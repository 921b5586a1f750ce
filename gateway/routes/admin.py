"""`/metrics` and `/status`, for operators only."""

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
    # After the check of addresses: a 421 would show clients that are not operators that the path exists.
    blueprint.before_request(hosts.check_operators)

    def exposition() -> GatewayResponse:
        return content_response(metrics.exposition(), CONTENT_TYPE)

    blueprint.add_url_rule("/metrics", "metrics", exposition)
    add_status(blueprint, status)
    return blueprint


class NotAnOperator(Exception):
    """A request for an operators' path must get 404. The exception's text is the reason, which only the log shows."""


class OperatorsOnly:
    """Lets in clients whose address `admin.allow` lists. Everyone else gets 404, as if the path did not exist; the log
    has the reason."""

    def __init__(self, settings: AdminSettings) -> None:
        self._networks = [ip_network(network) for network in settings.allow]
        self._has_logged = False

    def check(self) -> None:
        """Raises NoRoute, whose status is 404, unless the request comes from an operator."""
        try:
            self._check(context.current())
        except NotAnOperator as reason:
            if not self._has_logged:
                # One line in each worker is enough: the access log has every such request.
                self._has_logged = True
                log.warning("a request for /status or /metrics got 404: %s", reason)
            raise NoRoute() from reason

    def would_let_in(self) -> bool:
        """Whether the sender of the current request may read the paths of operators."""
        try:
            self._check(context.current())
        except NotAnOperator:
            return False
        return True

    def _check(self, exchange: Exchange) -> None:
        """Raises NotAnOperator unless the request comes from an operator."""
        # A page of another origin may run in the browser of an operator. Its requests then come from the operator's
        # address, and the page can read the responses if [cors] allows its origin. Browsers send no Origin for the
        # gateway's own page.
        if any(name.lower() == "origin" for name, _ in exchange.headers):
            raise NotAnOperator("a page of another origin sent it")
        # All requests that a proxy forwards have its address as `peer`. They are let in only if a trusted proxy reports
        # the client's address, and that address is allowed, too.
        is_forwarded = any(is_set_by_proxies(name) for name, _ in exchange.headers)
        client = exchange.client
        for address in (client.peer, client.address):
            if not self._is_allowed(address):
                raise NotAnOperator(f"admin.allow does not list {address}")
        if is_forwarded and client.address == client.peer:
            raise NotAnOperator("a proxy forwarded it, and without proxy.trusted_hops the client's address is unknown")

    def _is_allowed(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._networks)
