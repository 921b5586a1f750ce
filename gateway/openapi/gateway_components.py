"""The components that all operations share: the gateway's problem document, its answers, its fields, its scheme."""

from __future__ import annotations

from typing import Any

from gateway.openapi.inputs import GatewayFacts
from gateway.openapi.security import BEARER, COOKIE

PROBLEM_TYPE = "application/problem+json"
TEXT = {"type": "string"}

# Status, name of the component, and description, as in the table of docs/failures.md.
ANSWERS = {
    "400": ("gateway_BadRequest", "The gateway refuses the path or the message: `bad_path`, `bad_request`."),
    "401": ("gateway_Unauthorized", "The gateway needs a valid bearer token: `missing_token`, `invalid_token`."),
    "403": ("gateway_Forbidden", "The token lacks a scope: `insufficient_scope`."),
    "413": ("gateway_BodyTooLarge", "The body is larger than the gateway forwards: `body_too_large`."),
    "414": ("gateway_TargetTooLong", "The path and the query are longer than the gateway reads: `bad_request`."),
    "429": ("gateway_QuotaExceeded", "The quota is used up: `quota_exceeded`."),
    "431": ("gateway_HeaderTooLarge", "The header is larger than the gateway reads: `bad_request`."),
    "502": (
        "gateway_BadGateway",
        "The service can't be reached, or its answer can't be understood: `upstream_unreachable`, `upstream_protocol`.",
    ),
    "503": (
        "gateway_Unavailable",
        "At the moment the gateway can't serve this: `overloaded`, `upstream_open`, `limiter_unavailable`, "
        "`keys_unavailable`.",
    ),
    "504": ("gateway_Timeout", "The service did not answer in time: `upstream_timeout`."),
}
# Fields of some answers, beside X-Gateway-Error.
ANSWER_FIELDS = {
    "401": ["WWW-Authenticate"],
    "403": ["WWW-Authenticate"],
    "429": ["Retry-After"],
    "503": ["Retry-After"],
}
QUOTA_FIELDS = {
    "X-RateLimit-Limit": ("Requests that the limit nearest to exhaustion allows in its window.", "integer"),
    "X-RateLimit-Remaining": ("Requests that are left of it.", "integer"),
    "X-RateLimit-Reset": ("Seconds until it is whole again.", "integer"),
    "RateLimit-Policy": ('The limits that apply: `"default";q=300;w=60`.', "string"),
    "RateLimit": ('The limit nearest to exhaustion: `"default";r=299;t=42`.', "string"),
}
OTHER_FIELDS = {
    "X-Gateway-Error": ("The problem's code. Only answers that the gateway gives by itself have it.", "string"),
    "WWW-Authenticate": ("What is wrong with the token (RFC 6750 section 3).", "string"),
    "Retry-After": ("Seconds to wait before the next attempt.", "integer"),
}


def header_reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/headers/gateway_{name}"}


QUOTA_HEADERS = {name: header_reference(name) for name in QUOTA_FIELDS}


def shared_components(facts: GatewayFacts) -> dict[str, dict[str, Any]]:
    """The Components Object's sections. No service's name can make one of these names."""
    return {
        "schemas": {"gateway_Problem": problem_schema()},
        "responses": {
            name: answer(status, text, facts)
            for status, (name, text) in ANSWERS.items()
            if status != "429" or facts.limits_enabled
        },
        "headers": {
            f"gateway_{name}": {"description": text, "schema": {"type": kind}}
            for name, (text, kind) in {**(QUOTA_FIELDS if facts.limits_enabled else {}), **OTHER_FIELDS}.items()
        },
        "securitySchemes": security_schemes(facts),
    }


def security_schemes(facts: GatewayFacts) -> dict[str, Any]:
    bearer = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The token that the gateway verifies; with the scopes that it asks for.",
    }
    if facts.token_cookie is None:
        return {BEARER: bearer}
    text = "The same token in a cookie, for requests without an Authorization field."
    cookie = {"type": "apiKey", "in": "cookie", "name": facts.token_cookie, "description": text}
    return {BEARER: bearer, COOKIE: cookie}


def answer(status: str, text: str, facts: GatewayFacts) -> dict[str, Any]:
    fields = answer_headers(status) | quota_headers(facts)
    return {"description": text, "headers": fields, "content": {PROBLEM_TYPE: {"schema": problem_reference()}}}


def answer_headers(status: str) -> dict[str, Any]:
    """Those that the gateway's own answer of this status has, as references."""
    return {name: header_reference(name) for name in ["X-Gateway-Error", *ANSWER_FIELDS.get(status, [])]}


def quota_headers(facts: GatewayFacts) -> dict[str, Any]:
    """Those that every limited answer has, as references. Always the same objects: thousands of answers have them."""
    return QUOTA_HEADERS if facts.limits_enabled else {}


def problem_reference() -> dict[str, Any]:
    return {"$ref": "#/components/schemas/gateway_Problem"}


def problem_schema() -> dict[str, Any]:
    return {
        "title": "Problem",
        "description": "An answer that the gateway gives by itself (RFC 9457).",
        "type": "object",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": {**TEXT, "format": "uri", "description": "urn:gateway:problem:CODE; of quotas, IANA's."},
            "title": dict(TEXT),
            "status": {"type": "integer"},
            "detail": dict(TEXT),
            "instance": {**TEXT, "description": "The request id."},
            "missing_scopes": {"type": "array", "items": dict(TEXT)},
            "violated-policies": {"type": "array", "items": dict(TEXT)},
        },
    }
