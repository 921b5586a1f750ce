"""The ways to get a token that a service documents (OAuth 2 flows), as clients of the gateway can use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from gateway.openapi.omissions import Omissions, Where
from gateway.openapi.operation_policy import PolicyTable
from gateway.openapi.path_mapping import PathMapping

NO_WAY_TO_IT = "its address is relative, and the gateway has no public route to it"


class TokenUrls:
    """Finds where clients reach a service's token URL. `placing` is of the same service, `table` of all."""

    def __init__(self, document: Mapping[str, Any], placing: PathMapping, table: PolicyTable) -> None:
        paths = document.get("paths")
        self._paths: Mapping[str, Any] = paths if isinstance(paths, dict) else {}
        self._placing = placing
        self._table = table

    def at_gateway(self, url: Any) -> str | None:
        """The relative URL, to be read from the gateway's root as all API URLs are (OpenAPI 3.1.1 4.6). None where a
        POST without a token does not get there, and for absolute ones."""
        try:
            path, query = parts_of_relative(str(url))
        except ValueError:
            return None
        # A path that the service documents itself is its own. Another one is first taken for what clients call: of the
        # service that issues the tokens.
        own = self._placing.place(path)
        for candidate in (own, path) if path in self._paths else (path, own):
            policy = self._table.policy_for("POST", candidate) if candidate is not None else None
            if candidate is not None and policy is not None and not policy.needs_token:
                return candidate.removeprefix("/") + query
        return None


def parts_of_relative(url: str) -> tuple[str, str]:
    """The path from the root, and the query with its question mark. Raises ValueError for an absolute URL."""
    parts = urlsplit(urljoin("/", url))
    if parts.scheme or parts.netloc:
        raise ValueError("absolute")
    return parts.path, f"?{parts.query}" if parts.query else ""


def has_routed_login(scheme: Mapping[str, Any], token_urls: TokenUrls) -> bool:
    """Whether clients can log in through the gateway, with a name and a password, as this scheme says."""
    flows = scheme.get("flows")
    password = flows.get("password") if scheme.get("type") == "oauth2" and isinstance(flows, dict) else None
    return isinstance(password, dict) and token_urls.at_gateway(password.get("tokenUrl")) is not None


def reachable(scheme: dict[str, Any], token_urls: TokenUrls, where: Where, omissions: Omissions) -> dict[str, Any]:
    """The OAuth 2 or OpenID Connect scheme with the flows that clients can use: those whose addresses are absolute, and
    the password flow whose token URL the gateway routes. Where none is left, what it comes to for a request: a bearer
    token. Other schemes are returned as they are."""
    kind = scheme.get("type")
    if kind == "openIdConnect" and not is_absolute(scheme.get("openIdConnectUrl", "http:")):
        omissions.add((where, "openIdConnectUrl"), NO_WAY_TO_IT)
        return bearer_instead_of(scheme)
    if kind != "oauth2":
        return scheme
    given, flows = scheme.get("flows"), {}
    for name, flow in given.items() if isinstance(given, dict) else []:
        usable = flow if name.startswith("x-") else usable_flow(name, flow, token_urls)
        if usable is None:
            omissions.add(((where, "flows"), name), NO_WAY_TO_IT)
        else:
            flows[name] = usable
    if not any(not name.startswith("x-") for name in flows):
        return bearer_instead_of(scheme)
    return scheme | {"flows": flows}


def usable_flow(name: str, flow: Any, token_urls: TokenUrls) -> dict[str, Any] | None:
    if not isinstance(flow, dict):
        return None
    if all(is_absolute(value) for key, value in flow.items() if key.endswith("Url")):
        return flow
    token_url = token_urls.at_gateway(flow.get("tokenUrl")) if name == "password" else None
    if token_url is None:
        return None
    scopes = flow.get("scopes")
    usable = flow | {"tokenUrl": token_url, "scopes": scopes if isinstance(scopes, dict) else {}}
    refresh_url = usable.pop("refreshUrl", None)
    if is_absolute(refresh_url):
        return usable | {"refreshUrl": refresh_url}
    refresh_url = token_urls.at_gateway(refresh_url) if refresh_url is not None else None
    return usable if refresh_url is None else usable | {"refreshUrl": refresh_url}


def bearer_instead_of(scheme: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in scheme.items() if key == "description" or key.startswith("x-")}
    return {"type": "http", "scheme": "bearer", **kept}


def is_absolute(url: Any) -> bool:
    try:
        return urlsplit(str(url)).scheme in ("http", "https")
    except ValueError:
        return False
