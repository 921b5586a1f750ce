"""The gateway's components, to which all operations refer: problem document, responses, headers, security schemes."""

from __future__ import annotations

from typing import Any

from gateway.openapi.inputs import GatewayFacts
from gateway.openapi.security import BEARER, COOKIE

PROBLEM_TYPE = "application/problem+json"
TEXT = {"type": "string"}

# The gateway's own responses by status: the name of the component and its description. docs/failures.md has the codes.
RESPONSES = {
    "400": ("gateway_BadRequest", "The gateway rejects the path or the message: `bad_path`, `bad_request`."),
    "401": ("gateway_Unauthorized", "The gateway requires a valid bearer token: `missing_token`, `invalid_token`."),
    "403": ("gateway_Forbidden", "The token lacks a scope: `insufficient_scope`."),
    "413": ("gateway_BodyTooLarge", "The body is larger than the gateway accepts: `body_too_large`."),
    "414": ("gateway_TargetTooLong", "Path and query are longer than the gateway accepts: `bad_request`."),
    "429": ("gateway_QuotaExceeded", "A rate limit is exceeded: `quota_exceeded`."),
    "431": ("gateway_HeaderTooLarge", "The headers are larger than the gateway accepts: `bad_request`."),
    "502": (
        "gateway_BadGateway",
        "The service can't be reached, or its response is invalid: `upstream_unreachable`, `upstream_protocol`.",
    ),
    "503": (
        "gateway_Unavailable",
        "The gateway can't forward the request at the moment: `overloaded`, `upstream_open`, `limiter_unavailable`, "
        "`keys_unavailable`.",
    ),
    "504": ("gateway_Timeout", "The service did not respond in time: `upstream_timeout`."),
}
# The headers that responses of these statuses have in addition to X-Gateway-Error.
RESPONSE_HEADERS = {
    "401": ["WWW-Authenticate"],
    "403": ["WWW-Authenticate"],
    "429": ["Retry-After"],
    "503": ["Retry-After"],
}
RATE_LIMIT_HEADERS = {
    "X-RateLimit-Limit": ("Requests allowed per window by the limit that is closest to exhaustion.", "integer"),
    "X-RateLimit-Remaining": ("Requests that this limit still allows.", "integer"),
    "X-RateLimit-Reset": ("Seconds until this limit is completely available again.", "integer"),
    "RateLimit-Policy": ('The limits that apply: `"default";q=300;w=60`.', "string"),
    "RateLimit": ('The limit that is closest to exhaustion: `"default";r=299;t=42`.', "string"),
}
OTHER_HEADERS = {
    "X-Gateway-Error": ("The code of the problem. Only the gateway's own responses have this header.", "string"),
    "WWW-Authenticate": ("Why the token is missing or refused (RFC 6750 section 3).", "string"),
    "Retry-After": ("Seconds to wait before the next attempt.", "integer"),
}


def header_reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/headers/gateway_{name}"}


RATE_LIMIT_REFERENCES = {name: header_reference(name) for name in RATE_LIMIT_HEADERS}


def shared_components(facts: GatewayFacts) -> dict[str, dict[str, Any]]:
    """The gateway's own components, by section of the Components Object. Components of services never have these names,
    because their names begin with the name of their service, and no service can be named `gateway`."""
    return {
        "schemas": {"gateway_Problem": problem_schema()},
        "responses": {
            name: response_object(status, text, facts)
            for status, (name, text) in RESPONSES.items()
            if status != "429" or facts.limits_enabled
        },
        "headers": {
            f"gateway_{name}": {"description": text, "schema": {"type": kind}}
            for name, (text, kind) in {**(RATE_LIMIT_HEADERS if facts.limits_enabled else {}), **OTHER_HEADERS}.items()
        },
        "securitySchemes": security_schemes(facts),
    }


def security_schemes(facts: GatewayFacts) -> dict[str, Any]:
    bearer = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The token that the gateway verifies, with the scopes that it requires.",
    }
    if facts.token_cookie is None:
        return {BEARER: bearer}
    text = "The same token in a cookie, for requests without an Authorization header."
    cookie = {"type": "apiKey", "in": "cookie", "name": facts.token_cookie, "description": text}
    return {BEARER: bearer, COOKIE: cookie}


def response_object(status: str, text: str, facts: GatewayFacts) -> dict[str, Any]:
    headers = response_headers(status) | rate_limit_headers(facts)
    return {"description": text, "headers": headers, "content": {PROBLEM_TYPE: {"schema": problem_reference()}}}


def response_headers(status: str) -> dict[str, Any]:
    """References to the headers of the gateway's own response with this status."""
    return {name: header_reference(name) for name in ["X-Gateway-Error", *RESPONSE_HEADERS.get(status, [])]}


def rate_limit_headers(facts: GatewayFacts) -> dict[str, Any]:
    """References to the rate-limit headers; empty if limits are disabled. Always the same dict, because
    thousands of responses contain it."""
    return RATE_LIMIT_REFERENCES if facts.limits_enabled else {}


def problem_reference() -> dict[str, Any]:
    return {"$ref": "#/components/schemas/gateway_Problem"}


def problem_schema() -> dict[str, Any]:
    return {
        "title": "Problem",
        "description": "A response of the gateway itself (RFC 9457).",
        "type": "object",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": {
                **TEXT,
                "format": "uri",
                "description": "urn:gateway:problem:CODE; for exceeded limits, the type registered with IANA.",
            },
            "title": dict(TEXT),
            "status": {"type": "integer"},
            "detail": dict(TEXT),
            "instance": {**TEXT, "description": "The request id."},
            "missing_scopes": {"type": "array", "items": dict(TEXT)},
            "violated-policies": {"type": "array", "items": dict(TEXT)},
        },
    }
