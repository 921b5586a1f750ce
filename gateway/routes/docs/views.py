"""The API document of all services, of each, and the page to try it: finished before anybody asks for them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files

from flask import Blueprint, request

from gateway.api_documents.catalog import Catalog, RenderedDocument
from gateway.api_documents.refresher import DocumentRefresher
from gateway.errors import DocumentUnavailable, NoRoute
from gateway.responses import GatewayResponse
from gateway.system.native_threads import run_in_native_thread

# How long the first request for a document waits, where nobody has fetched any yet.
FIRST_SECONDS = 3.0
# Nothing but what this origin serves; Swagger UI's icons are data: URLs, and it sets styles of elements by itself.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STATUS_LINK = b'    <a href="status">Status</a>\n'
JSON, HTML = "application/json", "text/html; charset=utf-8"
# Looked up now: it imports them, which nothing that runs aside may do.
PAGE, SWAGGER_UI = files("gateway.routes.docs") / "page", files("flask_swagger_ui") / "dist"
# The page's own parts and those of the pinned package: nothing else of it is served.
ASSETS = {
    "page.js": (PAGE, "text/javascript; charset=utf-8"),
    "streams.js": (PAGE, "text/javascript; charset=utf-8"),
    "page.css": (PAGE, "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": (SWAGGER_UI, "text/javascript; charset=utf-8"),
    "swagger-ui.css": (SWAGGER_UI, "text/css; charset=utf-8"),
    "favicon-32x32.png": (SWAGGER_UI, "image/png"),
}


@dataclass(frozen=True, slots=True)
class Asset:
    finished: RenderedDocument
    content_type: str


def docs_blueprint(
    catalog: Catalog,
    refresher: DocumentRefresher,
    guard: Callable[[], None] | None,
    require_token: Callable[[], None],
    is_operator: Callable[[], bool],
) -> Blueprint:
    """`guard` is asked before documents are given away; the page itself, which tells nothing, is for everyone. Those
    who may see /status find a link to it. `require_token` raises where a request has no good token."""
    blueprint = Blueprint("gateway-docs", __name__)
    text = (PAGE / "page.html").read_bytes()
    page = finished_text(text.replace(STATUS_LINK, b""))
    page_for_operators = finished_text(text)

    def document(service: str = "") -> GatewayResponse:
        if guard is not None:
            guard()
        if service and (service not in catalog.names or not catalog.has_document(service)):
            raise NoRoute()
        refresher.wait_for_first(FIRST_SECONDS)
        found = catalog.shelf.documents.get(service)
        if found is None:
            raise not_available(service)
        return answer(found, JSON)

    def services() -> GatewayResponse:
        if guard is not None:
            guard()
        refresher.wait_for_first(FIRST_SECONDS)
        index = catalog.shelf.index
        if index is None:
            raise not_available()
        return answer(index, JSON)

    def not_available(service: str = "") -> DocumentUnavailable:
        """The error while nothing has been merged yet, or while the document of this service was never had."""
        if catalog.shelf.index is None:
            return DocumentUnavailable("it is being made; try again when Retry-After has passed")
        return DocumentUnavailable("the service has not given it", refresher.seconds_until_renewed(service))

    def token() -> GatewayResponse:
        """Whether the request's token is a good one: 204, or the 401 that says why it is not."""
        require_token()
        response = GatewayResponse(status=204)
        response.headers["Cache-Control"] = "no-store"
        return response

    def show() -> GatewayResponse:
        if request.path.endswith("/"):
            # From here the page's relative links would lead nowhere.
            moved = GatewayResponse(status=308)
            moved.headers.extend([("Location", "../docs"), ("Content-Length", "0")])
            return moved
        response = answer(page_for_operators if is_operator() else page, HTML)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def asset(name: str) -> GatewayResponse:
        asset = run_in_native_thread(lambda: load_asset(name))
        return answer(asset.finished, asset.content_type, "public, max-age=3600")

    add = partial(blueprint.add_url_rule, methods=["GET"])
    add("/openapi.json", "all", document)
    add("/openapi/<service>.json", "one", document)
    add("/docs", "page", show)
    add("/docs/services.json", "services", services)
    add("/docs/token", "token", token)
    # One by one: what else is below /docs belongs to the service at /, if there is one.
    for name in ASSETS:
        add(f"/docs/{name}", name.replace(".", "_"), partial(asset, name))
    return blueprint


@cache
def load_asset(name: str) -> Asset:
    # When it is first asked for: compressing them takes as long as building all the rest.
    folder, content_type = ASSETS[name]
    return Asset(finished_text((folder / name).read_bytes()), content_type)


def finished_text(content: bytes) -> RenderedDocument:
    return RenderedDocument(content, gzip.compress(content, mtime=0), sha256(content).hexdigest()[:32])


def answer(finished: RenderedDocument, content_type: str, cache_control: str = "no-cache") -> GatewayResponse:
    """The content, compressed for those who take it, or 304 for those who have it (RFC 9110 13.1.2). The compressed
    form is another representation, so it has another tag."""
    is_compressed = request.accept_encodings["gzip"] > 0
    tag = f'"{finished.tag}-gzip"' if is_compressed else f'"{finished.tag}"'
    fields = [
        ("ETag", tag),
        ("Cache-Control", cache_control),
        ("Vary", "Accept-Encoding"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if request.if_none_match.contains_weak(tag.strip('"')):
        response = GatewayResponse(status=304)
    else:
        content = finished.compressed if is_compressed else finished.content
        response = GatewayResponse([content])
        fields += [("Content-Type", content_type), ("Content-Length", str(len(content)))]
        if is_compressed:
            fields.append(("Content-Encoding", "gzip"))
    response.headers.extend(fields)
    return response
