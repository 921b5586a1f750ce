"""What is for operators alone: `/metrics` and `/status`."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from flask import Blueprint

from gateway import context
from gateway.config import AdminSettings
from gateway.errors import NoRoute
from gateway.metrics.registry import CONTENT_TYPE, Metrics
from gateway.proxy.headers import tells_of_a_proxy
from gateway.responses import GatewayResponse, content_response
from gateway.served_hosts import ServedHosts
from gateway.status.desk import StatusDesk
from gateway.status_routes import add_status


def admin_blueprint(settings: AdminSettings, hosts: ServedHosts, metrics: Metrics, status: StatusDesk) -> Blueprint:
    blueprint = Blueprint("gateway-admin", __name__)
    blueprint.before_request(OperatorsOnly(settings).check)
    # Behind the addresses: strangers are not to learn from a 421 that there is something.
    blueprint.before_request(hosts.check_operators)

    def exposition() -> GatewayResponse:
        return content_response(metrics.exposition(), CONTENT_TYPE)

    blueprint.add_url_rule("/metrics", "metrics", exposition)
    add_status(blueprint, status)
    return blueprint


class OperatorsOnly:
    """Lets in whose own address is allowed. To others there is nothing here, so that nobody learns that there is."""

    def __init__(self, settings: AdminSettings) -> None:
        self._networks = [ip_network(network) for network in settings.allow]

    def check(self) -> None:
        """Raises NoRoute."""
        exchange = context.current()
        # The gateway's own page is of its origin. A page of another one may read answers where [cors] lets it, but asks
        # with the address of whoever looks at it.
        if any(name.lower() == "origin" for name, _ in exchange.fields):
            raise NoRoute()
        # Through a proxy everybody has its address; then the client's own counts, which must be one that is believed.
        is_forwarded = any(tells_of_a_proxy(name) for name, _ in exchange.fields)
        client = exchange.client
        if not self._is_allowed(client.peer) or not self._is_allowed(client.address):
            raise NoRoute()
        if is_forwarded and client.address == client.peer:
            raise NoRoute()

    def _is_allowed(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._networks)
