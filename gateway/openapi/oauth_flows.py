"""Reduces the OAuth 2 and OpenID Connect schemes of a service's document to what clients of the gateway can use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from gateway.openapi.omissions import Location, Omissions
from gateway.openapi.operation_policy import PolicyTable
from gateway.openapi.path_mapping import PathMapping

NO_PUBLIC_ROUTE = "its URL is relative, and no route of the gateway leads there without a token"


class TokenUrls:
    """Maps a service's token URLs to the gateway. `mapping` is that of the service, `table` has the policies of all
    services."""

    def __init__(self, document: Mapping[str, Any], mapping: PathMapping, table: PolicyTable) -> None:
        paths = document.get("paths")
        self._paths: Mapping[str, Any] = paths if isinstance(paths, dict) else {}
        self._mapping = mapping
        self._table = table

    def client_url(self, url: Any) -> str | None:
        """The token URL for clients, relative to the gateway's root, because clients resolve URLs of an API against its
        server (OpenAPI 3.1.1 4.6). None for an absolute URL, or if the gateway does not forward a POST request without
        a token to it."""
        try:
            path, query = path_and_query(str(url))
        except ValueError:
            return None
        # A path in the service's document is a path of the service. Any other path is more likely the path, as clients
        # call it, of another service that issues the tokens.
        own = self._mapping.client_path(path)
        for candidate in (own, path) if path in self._paths else (path, own):
            policy = self._table.policy_for("POST", candidate) if candidate is not None else None
            if candidate is not None and policy is not None and not policy.needs_token:
                return candidate.removeprefix("/") + query
        return None


def path_and_query(url: str) -> tuple[str, str]:
    """The path from the root, and the query with its question mark. Raises ValueError for an absolute URL."""
    parts = urlsplit(urljoin("/", url))
    if parts.scheme or parts.netloc:
        raise ValueError("absolute")
    return parts.path, f"?{parts.query}" if parts.query else ""


def has_password_login(scheme: Mapping[str, Any], token_urls: TokenUrls) -> bool:
    """Whether the scheme has a password flow whose token URL clients reach through the gateway."""
    flows = scheme.get("flows")
    password = flows.get("password") if scheme.get("type") == "oauth2" and isinstance(flows, dict) else None
    return isinstance(password, dict) and token_urls.client_url(password.get("tokenUrl")) is not None


def usable_scheme(
    scheme: dict[str, Any], token_urls: TokenUrls, location: Location, omissions: Omissions
) -> dict[str, Any]:
    """The OAuth 2 or OpenID Connect scheme with the flows that clients can use: those with absolute URLs, and the
    password flow if the gateway routes its token URL. A scheme without any usable flow becomes a bearer scheme,
    because its token is sent as a bearer token. Schemes of other types are returned unchanged."""
    kind = scheme.get("type")
    if kind == "openIdConnect" and not is_absolute(scheme.get("openIdConnectUrl", "http:")):
        omissions.add((location, "openIdConnectUrl"), NO_PUBLIC_ROUTE)
        return bearer_scheme(scheme)
    if kind != "oauth2":
        return scheme
    given, flows = scheme.get("flows"), {}
    for name, flow in given.items() if isinstance(given, dict) else []:
        usable = flow if name.startswith("x-") else usable_flow(name, flow, token_urls)
        if usable is None:
            omissions.add(((location, "flows"), name), NO_PUBLIC_ROUTE)
        else:
            flows[name] = usable
    if not any(not name.startswith("x-") for name in flows):
        return bearer_scheme(scheme)
    return scheme | {"flows": flows}


def usable_flow(name: str, flow: Any, token_urls: TokenUrls) -> dict[str, Any] | None:
    if not isinstance(flow, dict):
        return None
    if all(is_absolute(value) for key, value in flow.items() if key.endswith("Url")):
        return flow
    token_url = token_urls.client_url(flow.get("tokenUrl")) if name == "password" else None
    if token_url is None:
        return None
    scopes = flow.get("scopes")
    usable = flow | {"tokenUrl": token_url, "scopes": scopes if isinstance(scopes, dict) else {}}
    refresh_url = usable.pop("refreshUrl", None)
    if not is_absolute(refresh_url):
        refresh_url = token_urls.client_url(refresh_url) if refresh_url is not None else None
    return usable if refresh_url is None else usable | {"refreshUrl": refresh_url}


def bearer_scheme(scheme: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in scheme.items() if key == "description" or key.startswith("x-")}
    return {"type": "http", "scheme": "bearer", **kept}


def is_absolute(url: Any) -> bool:
    try:
        return urlsplit(str(url)).scheme in ("http", "https")
    except ValueError:
        return False
