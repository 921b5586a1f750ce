"""CORS: the gateway answers preflights and adds the CORS headers to every response, also to those of services."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, Response, request
from flask_cors import CORS

from gateway import context
from gateway.config import CorsSettings
from gateway.errors import LibraryMismatch
from gateway.http_fields import TOKEN
from gateway.responses import GatewayResponse, put_fields

# Response headers that pages may read, in addition to the few that browsers always expose (Fetch, CORS-safelisted).
EXPOSED = (
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Gateway-Error",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-Id",
)
VARY = ("Vary", "Origin")
ALLOW, REQUEST = "Access-Control-Allow", "Access-Control-Request"


def install(app: Flask, settings: CorsSettings) -> None:
    """Registers the hook that answers preflights, and flask-cors, which adds the headers to all responses."""
    app.before_request(answer_preflight)
    if not settings.origins:
        return
    names_origins = "*" not in settings.origins

    if names_origins:
        app.after_request(vary_by_origin)
    if settings.private_network:
        app.after_request(grant_local_network)
    collector = HookCollector()
    CORS(
        collector,
        origins="*" if not names_origins else [origin_pattern(origin) for origin in settings.origins],
        send_wildcard=not names_origins,
        supports_credentials=settings.credentials,
        methods=list(settings.methods),
        allow_headers=[header_pattern(name) for name in settings.allow_headers],
        expose_headers=[*EXPOSED, *settings.expose_headers],
        max_age=settings.max_age_seconds,
        allow_private_network=settings.private_network,
        # A wildcard does not depend on Origin, so it is also sent in responses to requests without Origin. Such
        # responses need no Vary, and a cache may give them to any page.
        always_send=not names_origins,
        vary_header=False,
        # Not needed: error responses pass through the after_request functions, too.
        intercept_exceptions=False,
    )
    if len(collector.hooks) != 1:
        raise LibraryMismatch([f"flask-cors registers {len(collector.hooks)} after_request functions instead of one"])
    (hook,) = collector.hooks
    # A request without Origin gets no headers. flask-cors comes to the same result, but takes 8 % of a request for it.
    app.after_request(where_cross_origin(hook) if names_origins else hook)


class HookCollector(Blueprint):
    """Passed to flask-cors instead of the application. It collects the hook of flask-cors, which `install` then runs
    only for requests that need it."""

    def __init__(self) -> None:
        super().__init__("cors", __name__)
        self.hooks: list[Callable[[Response], Response]] = []

    def after_request(self, f: Any) -> Any:
        self.hooks.append(f)
        return f


def vary_by_origin(response: Response) -> Response:
    """Adds Vary: Origin even if Origin is absent or refused: a cache must not give that response to an allowed page."""
    named = [value for name, value in response.headers if name.lower() == "vary"]
    if "origin" not in {name.strip().lower() for value in named for name in value.split(",")}:
        put_fields(response.headers, [VARY])
    return response


def grant_local_network(response: Response) -> Response:
    """Grants Private Network Access under its newer name, Local Network Access, which flask-cors does not know."""
    if request.headers.get(f"{REQUEST}-Local-Network") == "true" and f"{ALLOW}-Origin" in response.headers:
        put_fields(response.headers, [(f"{ALLOW}-Local-Network", "true")])
    return response


def where_cross_origin(hook: Callable[[Response], Response]) -> Callable[[Response], Response]:
    def run(response: Response) -> Response:
        exchange = context.current_or_none()
        return response if exchange is not None and "HTTP_ORIGIN" not in exchange.environ else hook(response)

    return run


def origin_pattern(origin: str) -> re.Pattern[str]:
    """A pattern that matches the whole of an origin; `*` stands for labels of the host or for the port."""
    scheme, separator, rest = origin.partition("://")
    host, colon, port = rest.rpartition(":") if re.search(r":(\d+|\*)$", rest) else (rest, "", "")
    text = re.escape(scheme + separator) + re.escape(host).replace(r"\*", r"[a-z0-9-]+(?:\.[a-z0-9-]+)*")
    return re.compile(text + colon + (r"\d{1,5}" if port == "*" else port) + r"\Z", re.IGNORECASE)


def header_pattern(name: str) -> re.Pattern[str]:
    # Even `*` matches only valid header names, because the response repeats the names that the client sent.
    return re.compile((TOKEN if name == "*" else re.escape(name)) + r"\Z", re.IGNORECASE)


def answer_preflight() -> Response | None:
    """The response to a preflight (Fetch, CORS-preflight request), without token, limits and upstream. Any other
    OPTIONS request goes on to its service."""
    if context.current().method != "OPTIONS":
        return None
    headers = request.headers
    if "Origin" not in headers or f"{REQUEST}-Method" not in headers:
        return None
    response = GatewayResponse(status=204)
    response.headers["Vary"] = f"Origin, {REQUEST}-Method, {REQUEST}-Headers"
    return response
