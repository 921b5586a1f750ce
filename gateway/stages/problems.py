"""Turns every error into a problem document (RFC 9457), in one place. Nothing internal gets out."""

from __future__ import annotations

import json
import logging

from flask import Flask, current_app, request
from flask_limiter.errors import RateLimitExceeded
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing.exceptions import WebsocketMismatch

from gateway import context, errors
from gateway.errors import describe
from gateway.responses import GatewayResponse, content_response
from gateway.stages.rate_limit_headers import violated_policies
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION, is_exhaustion

QUOTA_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"
# What Allow names for a mapping that takes any token but TRACE and CONNECT.
COMMON_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# Of what a client sent, in a detail.
LONGEST_SHOWN = 200
# Where people and programs find the API (RFC 8631), for who looks at /, where nothing else is.
DOCS = "gateway-docs"
DOCS_LINKS = '<docs>; rel="service-doc"; type="text/html", <openapi.json>; rel="service-desc"; type="application/json"'

log = logging.getLogger(__name__)


def install(app: Flask) -> None:
    app.register_error_handler(errors.GatewayError, answer)
    app.register_error_handler(errors.StreamAborted, answer_aborted)
    app.register_error_handler(HTTPException, answer_http)
    app.register_error_handler(Exception, answer_unexpected)


def answer(error: errors.GatewayError) -> GatewayResponse:
    """The response to an error of the gateway's own."""
    exchange = context.current_or_none()
    document: dict[str, object] = {
        "type": f"urn:gateway:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": detail_of(error),
        "instance": exchange.request_id if exchange else "",
    }
    if isinstance(error, errors.QuotaExceeded) and exchange is not None:
        document |= {"type": QUOTA_TYPE, "violated-policies": violated_policies(exchange.limits)}
    if isinstance(error, errors.InsufficientScope):
        document["missing_scopes"] = error.missing
    if exchange is not None:
        exchange.error_code = error.code
        exchange.error_cause = describe(error.__cause__) if error.__cause__ else ""
    response = content_response(json.dumps(document).encode(), "application/problem+json", error.status)
    response.headers.extend([("X-Gateway-Error", error.code), *challenge(error), *error.headers])
    return response


def challenge(error: errors.GatewayError) -> list[tuple[str, str]]:
    """WWW-Authenticate by RFC 6750 3: an error code only where a token came."""
    if isinstance(error, errors.MissingToken):
        return [("WWW-Authenticate", "Bearer")]
    if isinstance(error, errors.InvalidToken):
        return [("WWW-Authenticate", f'Bearer error="invalid_token", error_description="{error.detail}"')]
    if isinstance(error, errors.InsufficientScope):
        return [("WWW-Authenticate", f'Bearer error="insufficient_scope", scope="{" ".join(error.missing)}"')]
    return []


def answer_aborted(error: errors.StreamAborted) -> GatewayResponse:
    # The client has most likely gone; one that only stopped sending can still read why.
    response = answer(errors.BadRequest("the request's body ended early or is malformed"))
    context.current().error_code = "client_disconnected"
    context.current().error_cause = describe(error.__cause__ or error)
    return response


def answer_http(error: HTTPException) -> GatewayResponse:
    """Flask's and Werkzeug's own refusals, in the gateway's words."""
    if isinstance(error, RateLimitExceeded):
        return answer(errors.QuotaExceeded("try again when Retry-After has passed"))
    if isinstance(error, MethodNotAllowed):
        allowed = set(error.valid_methods or ())
        named = COMMON_METHODS if "*" in allowed else sorted(allowed)
        allow = ", ".join(named)
        detail = f"{shortened(request.method)} is not allowed for {asked_path()}; allowed: {allow or 'none'}"
        return answer(errors.MethodNotAllowed(detail, headers=[("Allow", allow)]))
    if isinstance(error, WebsocketMismatch):
        return answer(errors.UpgradeRefused())
    if isinstance(error, NotFound):
        has_docs = request.path == "/" and DOCS in current_app.blueprints
        return answer(errors.NoRoute(headers=[("Link", DOCS_LINKS)] if has_docs else ()))
    if error.code is not None and 400 <= error.code < 500:
        return answer(errors.BadRequest())
    return answer_unexpected(error)


def detail_of(error: errors.GatewayError) -> str:
    """What a client is told. Of a path that is not found, the same whether it does not exist or is hidden from it."""
    if isinstance(error, errors.NoRoute):
        return f"no service, and nothing of the gateway's own, is at {asked_path()}"
    if isinstance(error, errors.Undocumented):
        return f"the service's API document has no {shortened(request.method)} {asked_path()}"
    return error.detail


def asked_path() -> str:
    """The path as the client wrote it, without the query."""
    exchange = context.current_or_none()
    target = exchange.target if exchange is not None else None
    return shortened(target.raw_path if target is not None else request.path)


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def answer_unexpected(error: Exception) -> GatewayResponse:
    if is_exhaustion(error):
        RESOURCE_EXHAUSTION.tell(error)
        return answer(errors.Overloaded("try again in a moment"))
    log.error("%s failed", request.endpoint or "a request", exc_info=error)
    return answer(errors.GatewayError("see the gateway's log for this request id"))
