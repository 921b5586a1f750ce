"""`/status`: a page that updates itself for browsers, JSON for programs."""

from __future__ import annotations

from functools import partial
from importlib.resources import files

from flask import Blueprint, request

from gateway.responses import GatewayResponse, content_response, redirect_response
from gateway.status.document import StatusDocument

JSON, HTML = "application/json", "text/html; charset=utf-8"
# Content-Security-Policy of the page: it loads only files of its own origin, and has no inline scripts or styles.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PARTS = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "draw.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def add_status(blueprint: Blueprint, status_document: StatusDocument) -> None:
    """Adds the page, its files and the JSON document to the blueprint."""
    folder = files("gateway.routes.status") / "page"
    page = (folder / "page.html").read_bytes()
    parts = {name: (folder / name).read_bytes() for name in PARTS}

    def status() -> GatewayResponse:
        if request.path.endswith("/"):
            # Below /status/ the relative links of the page would lead to wrong paths.
            return redirect_response("../status")
        if wants_page():
            response = content_response(page, HTML)
            response.headers["Content-Security-Policy"] = POLICY
            response.headers["Referrer-Policy"] = "no-referrer"
        else:
            response = content_response(status_document.to_json(), JSON)
        response.headers["Vary"] = "Accept"
        return without_sniffing(response)

    def part(name: str) -> GatewayResponse:
        return without_sniffing(content_response(parts[name], PARTS[name]))

    add = partial(blueprint.add_url_rule, methods=["GET"])
    add("/status", "status", status)
    # One rule for each file: all other paths below /status belong to the service at /, if there is one.
    for name in PARTS:
        add(f"/status/{name}", f"status_{name.replace('.', '_')}", partial(part, name))


def wants_page() -> bool:
    """Whether the client prefers HTML to JSON. Browsers do; a client that accepts anything is a program."""
    return request.accept_mimetypes.best_match([JSON, "text/html"]) == "text/html"


def without_sniffing(response: GatewayResponse) -> GatewayResponse:
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
