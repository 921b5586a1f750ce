"""CPU time of merging 50 services with 2 000 operations, and of serving the rendered document.

Run it with `.venv/bin/python -m tests.benchmarks.openapi_merge`."""

from __future__ import annotations

import json
import time
from typing import Any

from flask import Flask

from gateway.api_documents.catalog import make_snapshot
from gateway.config import RateLimitSettings, ServiceSettings
from gateway.openapi import GatewayFacts, ServiceDocument, document_of, merge, parse_document
from gateway.route_policy import service_policies
from gateway.routes.docs.views import cached_response
from tests.benchmarks.load import counted_rounds

SERVICES, PATHS, ROUNDS, RESPONSES = 50, 10, 5, 2000
METHODS = ("get", "put", "post", "delete")


def raw_document(name: str, version: str) -> bytes:
    """A document of the size that FastAPI generates: each path has a model, parameters and validation errors."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Error": {"type": "object", "properties": {"loc": {"items": {"type": "string"}}}}}
    for number in range(PATHS):
        model = {"$ref": f"#/components/schemas/Model{number}"}
        schemas[f"Model{number}"] = {
            "type": "object",
            "properties": {f"field{index}": {"type": "string", "title": f"Field {index}"} for index in range(12)}
            | {"children": {"type": "array", "items": model}, "parent": {"anyOf": [model, {"type": "integer"}]}},
        }
        content = {"application/json": {"schema": model}}
        paths[f"/api/{name}/things{number}/{{id}}"] = {
            method: {
                "operationId": f"{method}_things{number}",
                "tags": ["things"],
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}},
                ],
                "responses": {
                    "200": {"description": "Successful Response", "content": content},
                    "422": {
                        "description": "Validation Error",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                    },
                },
                **({"requestBody": {"content": content}} if method in ("put", "post") else {}),
            }
            for method in METHODS
        }
    info = {"title": name, "version": "1.0.0"}
    return json.dumps({"openapi": version, "info": info, "paths": paths, "components": {"schemas": schemas}}).encode()


def part_of(name: str, document: dict[str, Any]) -> ServiceDocument:
    settings = ServiceSettings(prefix=f"/api/{name}", targets=("http://127.0.0.1:1",), scopes=(f"{name}:use",))
    return ServiceDocument(
        name, settings.prefix, tuple(service_policies(name, settings, RateLimitSettings())), document
    )


def report(what: str, started: float, times: int = 1) -> None:
    print(f"{what}: {(time.process_time() - started) / times:.3f} s CPU")


def run() -> None:
    raw = {f"s{index}": raw_document(f"s{index}", ("3.0.2", "3.1.0")[index % 2]) for index in range(SERVICES)}
    print(f"{SERVICES} services, {SERVICES * PATHS * len(METHODS)} operations, {sum(map(len, raw.values()))} bytes")
    started = time.process_time()
    parts = [part_of(name, parse_document(one)) for name, one in raw.items()]
    report("parse", started)
    started = time.process_time()
    for _ in counted_rounds(ROUNDS):
        result = merge(parts, GatewayFacts())
    report("merge", started, ROUNDS)
    started = time.process_time()
    document_of("s0", parts, GatewayFacts())
    report("one service", started)
    started = time.process_time()
    written = json.dumps(result)
    report(f"write {len(written)} bytes", started)
    started = time.process_time()
    snapshot = make_snapshot(parts, GatewayFacts(), [])
    report("render and compress the merged document and each service's", started)
    with Flask(__name__).test_request_context("/openapi.json", headers={"Accept-Encoding": "gzip"}):
        started = time.process_time()
        for _ in range(RESPONSES):
            cached_response(snapshot.documents[""], "application/json")
    microseconds = (time.process_time() - started) / RESPONSES * 1e6
    print(f"cached_response /openapi.json from the rendered document: {microseconds:.0f} µs CPU")


if __name__ == "__main__":
    run()
