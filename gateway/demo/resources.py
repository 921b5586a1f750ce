"""A sample service for one kind of resource, which behaves as a FastAPI service does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, jsonify, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException


@dataclass(frozen=True)
class Kind:
    """A kind of resource. `fields` maps the names of its fields to their JSON types."""

    name: str
    prefix: str
    fields: dict[str, str]
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def model(self) -> str:
        return self.name.rstrip("s").title()


DEVICES = Kind(
    "devices",
    "/api/devices",
    {"name": "string", "status": "string"},
    [{"id": "1", "name": "lamp", "status": "online"}],
)
RULES = Kind(
    "rules",
    "/api/rules",
    {"name": "string", "enabled": "boolean"},
    [{"id": "1", "name": "lamp on at dusk", "enabled": True}],
)
LIVESTREAMS = Kind(
    "livestreams",
    "/api/livestreams",
    {"title": "string", "url": "string"},
    [{"id": "1", "title": "front door", "url": "rtsp://camera/1"}],
)


def plain_app(name: str) -> Flask:
    """An application with /health, whose errors have the form of FastAPI's."""
    app = Flask(name, static_folder=None)
    app.url_map.strict_slashes = True
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # With FLASK_DEBUG, Flask would indent JSON, and the output would not match the tour of `flask demo`.
    app.json.compact = True  # type: ignore[attr-defined]

    def error_response(error: HTTPException) -> ResponseReturnValue:
        return jsonify(detail=error.name), error.code or 500

    app.register_error_handler(HTTPException, error_response)
    app.add_url_rule("/health", "health", lambda: jsonify(status="ok"))
    return app


def resource_app(kind: Kind) -> Flask:
    """The service for one kind of resource."""
    app = plain_app(kind.name)
    resources: dict[str, dict[str, Any]] = {resource["id"]: dict(resource) for resource in kind.examples}

    def list_all() -> Response:
        return jsonify(list(resources.values()))

    def create() -> ResponseReturnValue:
        given = request.get_json(silent=True)
        if not isinstance(given, dict) or set(given) - set(kind.fields):
            return jsonify(detail=[{"loc": ["body"], "msg": f"fields: {', '.join(kind.fields)}"}]), 422
        identifier = str(max((int(key) for key in resources), default=0) + 1)
        resources[identifier] = {"id": identifier, **given}
        return jsonify(resources[identifier]), 201

    def read(identifier: str) -> ResponseReturnValue:
        if identifier not in resources:
            return jsonify(detail=f"{kind.model} not found"), 404
        return jsonify(resources[identifier])

    def delete(identifier: str) -> ResponseReturnValue:
        if resources.pop(identifier, None) is None:
            return jsonify(detail=f"{kind.model} not found"), 404
        return "", 204

    def without_slash() -> ResponseReturnValue:
        return redirect(request.host_url.rstrip("/") + kind.prefix, 307)

    one = f"{kind.prefix}/<identifier>"
    app.add_url_rule(kind.prefix, "list", list_all, methods=["GET"])
    app.add_url_rule(kind.prefix, "create", create, methods=["POST"])
    app.add_url_rule(kind.prefix + "/", "slash", without_slash)
    app.add_url_rule(one, "read", read, methods=["GET"])
    app.add_url_rule(one, "delete", delete, methods=["DELETE"])
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(resource_document(kind)))
    return app


def resource_document(kind: Kind) -> dict[str, Any]:
    """The service's OpenAPI document."""
    model = {
        "type": "object",
        "properties": {"id": {"type": "string"}, **{name: {"type": of} for name, of in kind.fields.items()}},
    }
    reference = {"$ref": f"#/components/schemas/{kind.model}"}
    identifier = [{"name": "identifier", "in": "path", "required": True, "schema": {"type": "string"}}]
    body = {"required": True, "content": {"application/json": {"schema": reference}}}
    singular = kind.model.lower()
    return document(
        kind.name.title(),
        {
            kind.prefix: {
                "get": operation(f"list_{kind.name}", "200", {"type": "array", "items": reference}),
                "post": operation(f"create_{singular}", "201", reference) | {"requestBody": body},
            },
            kind.prefix + "/{identifier}": {
                "get": operation(f"read_{singular}", "200", reference) | {"parameters": identifier},
                "delete": operation(f"delete_{singular}", "204", None) | {"parameters": identifier},
            },
        },
        {kind.model: model},
    )


def document(title: str, paths: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1.0.0"},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "security": [{"bearer": []}],
    }


def operation(name: str, status: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    response: dict[str, Any] = {"description": "done"}
    if schema is not None:
        response["content"] = {"application/json": {"schema": schema}}
    return {"operationId": name, "responses": {status: response}}
