"""An upstream with API documents."""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import Received, ScriptedUpstream

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Devices", "version": "7"},
    "paths": {
        "/api/devices": {"get": {"operationId": "list", "responses": {"200": {"description": "ok"}}}},
        "/api/devices/{id}": {
            "delete": {"operationId": "remove", "responses": {"204": {"description": "gone"}}},
            "get": {"operationId": "read", "responses": {"200": {"description": "ok"}}},
        },
        "/api/devices/internal/state": {"get": {"responses": {"200": {"description": "ok"}}}},
        "/elsewhere": {"get": {"responses": {"200": {"description": "ok"}}}},
    },
}
YAML = b"""
openapi: 3.0.2
info: {title: Rules, version: '1'}
paths:
  /api/rules:
    get: {responses: {200: {description: ok}}}
"""


def answer(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Documented:
    """An upstream that serves one API document for devices and one for rules. `devices` holds the bytes of the response
    with the document of devices."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self.upstream = upstream
        self.devices: bytes | None = None
        self.serve(DOCUMENT)
        upstream.at["/devices.json"] = self._answer_devices
        upstream.at["/rules.yaml"] = lambda _, connection: send(connection, answer(YAML, "Content-Type: text/yaml"))

    def serve(self, document: Any, *fields: str) -> None:
        self.devices = answer(json.dumps(document).encode(), *(fields or ('ETag: "one"',)))

    def _answer_devices(self, received: Received, connection: socket.socket) -> bool:
        if self.devices is None:
            return False
        if received.values("If-None-Match") == ['"one"'] and b'ETag: "one"' in self.devices:
            return send(connection, b'HTTP/1.1 304 Not Modified\r\nETag: "one"\r\n\r\n')
        return send(connection, self.devices)

    def fetches(self, path: str = "/devices.json") -> list[Received]:
        return [one for one in self.upstream.requests if one.target == path]


def send(connection: socket.socket, data: bytes) -> bool:
    connection.sendall(data)
    return True


def settings_for(service: Documented, docs: dict[str, Any] | None = None, **devices: Any) -> dict[str, Any]:
    settings = four_services(service.upstream.url)
    settings["services"]["devices"] |= {"openapi_path": "/devices.json"} | devices
    settings["services"]["rules"]["openapi_path"] = "/rules.yaml"
    return settings | {"docs": {"title": "Home"} | (docs or {})}


def document(gateway: GatewayProcess, path: str = "/openapi.json") -> Any:
    reply = gateway.get(path, bearer())
    assert (reply.status, reply.value("Content-Type")) == (200, "application/json")
    return reply.json()


def states(gateway: GatewayProcess) -> dict[str, str]:
    services = document(gateway)["info"]["x-gateway-services"]
    return {name: entry["state"] for name, entry in services.items()}
