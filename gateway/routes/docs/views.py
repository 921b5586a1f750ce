"""`/openapi.json`, `/openapi/<service>.json` and `/docs`: rendered and compressed before they are requested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files

from flask import Blueprint, request

from gateway.api_documents.catalog import Catalog, RenderedDocument
from gateway.api_documents.refresher import DocumentRefresher
from gateway.errors import DocumentUnavailable, NoRoute
from gateway.responses import GatewayResponse, redirect_response
from gateway.system.native_threads import run_in_native_thread

# After a start, a request waits this long for the documents to be fetched for the first time.
FIRST_SECONDS = 3.0
# Content-Security-Policy of the page. Swagger UI has icons in data: URLs, and sets inline styles.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STATUS_LINK = b'    <a href="status">Status</a>\n'
JSON, HTML = "application/json", "text/html; charset=utf-8"
# Looked up when this module is imported: `files` imports the packages, and a native thread must not import anything.
PAGE, SWAGGER_UI = files("gateway.routes.docs") / "page", files("flask_swagger_ui") / "dist"
# The files below /docs: those of the page, and those of the Swagger UI package that the page uses.
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
    document: RenderedDocument
    content_type: str


def docs_blueprint(
    catalog: Catalog,
    refresher: DocumentRefresher,
    guard: Callable[[], None] | None,
    require_token: Callable[[], None],
    is_operator: Callable[[], bool],
) -> Blueprint:
    """`guard` runs before a document is sent; the page itself contains nothing of the documents and is public. Clients
    for whom `is_operator` is true get a link to /status. `require_token` raises if the request has no valid token."""
    blueprint = Blueprint("gateway-docs", __name__)
    text = (PAGE / "page.html").read_bytes()
    page = RenderedDocument.of(text.replace(STATUS_LINK, b""))
    page_for_operators = RenderedDocument.of(text)

    def document(service: str = "") -> GatewayResponse:
        if guard is not None:
            guard()
        if service and (service not in catalog.names or not catalog.has_document(service)):
            raise NoRoute()
        refresher.wait_for_first(FIRST_SECONDS)
        found = catalog.snapshot.documents.get(service)
        if found is None:
            raise not_available(service)
        return cached_response(found, JSON)

    def services() -> GatewayResponse:
        if guard is not None:
            guard()
        refresher.wait_for_first(FIRST_SECONDS)
        index = catalog.snapshot.index
        if index is None:
            raise not_available()
        return cached_response(index, JSON)

    def not_available(service: str = "") -> DocumentUnavailable:
        """The error if no document has been merged yet, or if the document of this service has never been fetched."""
        if catalog.snapshot.index is None:
            return DocumentUnavailable("the documents are being fetched; try again after Retry-After")
        return DocumentUnavailable(
            "the document of this service could not be fetched", refresher.seconds_until_refresh(service)
        )

    def token() -> GatewayResponse:
        """Responds with 204 if the request's token is valid, else with the 401 that gives the reason."""
        require_token()
        response = GatewayResponse(status=204)
        response.headers["Cache-Control"] = "no-store"
        return response

    def show() -> GatewayResponse:
        if request.path.endswith("/"):
            # Below /docs/ the relative links of the page would lead to wrong paths.
            return redirect_response("../docs")
        response = cached_response(page_for_operators if is_operator() else page, HTML)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def asset(name: str) -> GatewayResponse:
        asset = run_in_native_thread(lambda: load_asset(name))
        return cached_response(asset.document, asset.content_type, "public, max-age=3600")

    add = partial(blueprint.add_url_rule, methods=["GET"])
    add("/openapi.json", "all", document)
    add("/openapi/<service>.json", "one", document)
    add("/docs", "page", show)
    add("/docs/services.json", "services", services)
    add("/docs/token", "token", token)
    # One rule for each file: all other paths below /docs belong to the service at /, if there is one.
    for name in ASSETS:
        add(f"/docs/{name}", name.replace(".", "_"), partial(asset, name))
    return blueprint


@cache
def load_asset(name: str) -> Asset:
    # Compressed on the first request: compressing all files takes as long as building the rest of the application.
    folder, content_type = ASSETS[name]
    return Asset(RenderedDocument.of((folder / name).read_bytes()), content_type)


def cached_response(document: RenderedDocument, content_type: str, cache_control: str = "no-cache") -> GatewayResponse:
    """Responds with the document, compressed if the client accepts gzip, or with 304 if the client has it (RFC 9110
    13.1.2). The compressed form is another representation, so it has another ETag."""
    is_compressed = request.accept_encodings["gzip"] > 0
    tag = f'"{document.digest}-gzip"' if is_compressed else f'"{document.digest}"'
    fields = [
        ("ETag", tag),
        ("Cache-Control", cache_control),
        ("Vary", "Accept-Encoding"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if request.if_none_match.contains_weak(tag.strip('"')):
        response = GatewayResponse(status=304)
    else:
        content = document.compressed if is_compressed else document.content
        response = GatewayResponse([content])
        fields += [("Content-Type", content_type), ("Content-Length", str(len(content)))]
        if is_compressed:
            fields.append(("Content-Encoding", "gzip"))
    response.headers.extend(fields)
    return response
