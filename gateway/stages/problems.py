"""Turns every error into a problem document (RFC 9457). No other module builds error responses. Nothing internal is
shown."""

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
# Value of the Allow header for a rule that accepts every method but TRACE and CONNECT.
COMMON_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# The largest number of characters of a client's input that a `detail` repeats.
LONGEST_SHOWN = 200
# Links to the API document (RFC 8631). The 404 for the path `/` has them, if no service serves this path.
DOCS = "gateway-docs"
DOCS_LINKS = '<docs>; rel="service-doc"; type="text/html", <openapi.json>; rel="service-desc"; type="application/json"'

log = logging.getLogger(__name__)


def install(app: Flask) -> None:
    app.register_error_handler(errors.GatewayError, problem_response)
    app.register_error_handler(errors.StreamAborted, aborted_response)
    app.register_error_handler(HTTPException, http_exception_response)
    app.register_error_handler(Exception, unexpected_response)


def problem_response(error: errors.GatewayError) -> GatewayResponse:
    """The problem document of an error of the gateway."""
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
    """WWW-Authenticate (RFC 6750 3), with an error code only if the request had a token."""
    if isinstance(error, errors.MissingToken):
        return [("WWW-Authenticate", "Bearer")]
    if isinstance(error, errors.InvalidToken):
        return [("WWW-Authenticate", f'Bearer error="invalid_token", error_description="{error.detail}"')]
    if isinstance(error, errors.InsufficientScope):
        return [("WWW-Authenticate", f'Bearer error="insufficient_scope", scope="{" ".join(error.missing)}"')]
    return []


def aborted_response(error: errors.StreamAborted) -> GatewayResponse:
    # Most likely the client has closed the connection. A client that only stopped sending can still read the response.
    response = problem_response(errors.BadRequest("the request's body ended early or is malformed"))
    context.current().error_code = "client_disconnected"
    context.current().error_cause = describe(error.__cause__ or error)
    return response


def http_exception_response(error: HTTPException) -> GatewayResponse:
    """The problem document of an exception that Flask, Werkzeug or Flask-Limiter raised."""
    if isinstance(error, RateLimitExceeded):
        return problem_response(errors.QuotaExceeded("try again when Retry-After has passed"))
    if isinstance(error, MethodNotAllowed):
        allowed = set(error.valid_methods or ())
        named = COMMON_METHODS if "*" in allowed else sorted(allowed)
        allow = ", ".join(named)
        detail = f"{shortened(request.method)} is not allowed for {requested_path()}; allowed: {allow or 'none'}"
        return problem_response(errors.MethodNotAllowed(detail, headers=[("Allow", allow)]))
    if isinstance(error, WebsocketMismatch):
        return problem_response(errors.UpgradeRefused())
    if isinstance(error, NotFound):
        has_docs = request.path == "/" and DOCS in current_app.blueprints
        return problem_response(errors.NoRoute(headers=[("Link", DOCS_LINKS)] if has_docs else ()))
    if error.code is not None and 400 <= error.code < 500:
        return problem_response(errors.BadRequest())
    return unexpected_response(error)


def detail_of(error: errors.GatewayError) -> str:
    """The `detail` that the client sees. For a 404 it is the same whether the path does not exist or is hidden."""
    if isinstance(error, errors.NoRoute):
        return f"neither a service nor the gateway has {requested_path()}"
    if isinstance(error, errors.Undocumented):
        return f"the API document of the service does not have {shortened(request.method)} {requested_path()}"
    return error.detail


def requested_path() -> str:
    """The path as the client sent it, without the query."""
    exchange = context.current_or_none()
    target = exchange.target if exchange is not None else None
    return shortened(target.raw_path if target is not None else request.path)


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def unexpected_response(error: Exception) -> GatewayResponse:
    if is_exhaustion(error):
        RESOURCE_EXHAUSTION.report(error)
        return problem_response(errors.Overloaded("try again in a moment"))
    log.error("%s failed", request.endpoint or "a request", exc_info=error)
    return problem_response(errors.GatewayError("the log of the gateway has the reason under this request id"))
