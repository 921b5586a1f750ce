"""Describes the credentials that clients must send (`security`): those that the gateway requires, and the service's.

If the policy requires a token:

- The gateway's schemes replace the service's bearer, OAuth 2 and OpenID Connect schemes, because all of them use the
  Authorization header, which the gateway verifies. Each way to send the token is an alternative: the header, the cookie
  if one is configured, and the header with a token of the service's own password flow, if the gateway routes its token
  URL.
- An API key in another header, a cookie or the query reaches the service, so it is required in addition.
- Basic and other uses of Authorization are impossible beside a bearer token: an alternative that requires them is
  left out.

If the policy requires no token, the Authorization header reaches the service, and the service's schemes stay, under
prefixed names. With or without a token, credentials that clients can't send to the service are left out: client
certificates, because the gateway terminates TLS, and headers that the gateway drops or sets itself.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from gateway.http_fields import is_never_forwarded, normal
from gateway.openapi.component_lookup import size_of
from gateway.openapi.inputs import GatewayFacts
from gateway.openapi.omissions import NOWHERE, Location, Omissions
from gateway.openapi.rewriter import Rewriter
from gateway.route_policy import RoutePolicy

BEARER = "gatewayBearer"
COOKIE = "gatewayCookie"
NEVER_FORWARDED = "the gateway drops or sets this header, so clients can't send it to the service"
# How large the service's alternatives for one operation may be together, in values and characters. They are repeated
# for every operation of the document.
MAX_ALTERNATIVES_SIZE = 5_000
Requirement = dict[str, list[str]]


class SentAs(Enum):
    """How clients send the credentials of a scheme to the service; NOTHING if they can't."""

    API_KEY = 0
    BEARER_TOKEN = 1
    OTHER_AUTHORIZATION = 2
    NOTHING = 3


class Security:
    """Makes the Security Requirement Objects of one service's operations."""

    def __init__(self, rewriter: Rewriter, facts: GatewayFacts, omissions: Omissions) -> None:
        self._rewriter = rewriter
        self._facts = facts
        self._omissions = omissions
        self._requirements: dict[tuple[str, int], list[Requirement]] = {}

    def requirements(self, policy: RoutePolicy, declared: Any, location: Location) -> list[Requirement]:
        """The `security` of an operation (OpenAPI 3.1.1 4.8.30): a list of alternatives, each with all schemes that it
        requires; `[]` if none are required. `declared`, at `location`, is the service's own list. The gateway's
        schemes have the scopes of the policy."""
        # Cached, because most operations have the list that the document declares for all of them.
        key = policy.name, id(declared)
        if key not in self._requirements:
            alternatives = declared if isinstance(declared, list) else []
            self._requirements[key] = self._combined(policy, alternatives, location)
        return self._requirements[key]

    def _combined(self, policy: RoutePolicy, alternatives: list[Any], location: Location) -> list[Requirement]:
        """Each alternative of the gateway, combined with each alternative of the service."""
        # Keyed by their text, to leave out equal ones: comparing each with all others would take quadratic time.
        found: dict[str, Requirement] = {}
        size = 0
        for index, alternative in enumerate(alternatives):
            if not isinstance(alternative, dict):
                continue
            size += size_of(alternative)
            if size > MAX_ALTERNATIVES_SIZE:
                self._omissions.add((location, str(index)), "too many alternatives")
                continue
            needs = self._requirement(alternative, (location, str(index)), with_token=policy.needs_token)
            if needs is None:
                continue
            logins = self._logins(alternative) if policy.needs_token else {}
            for own in [*self._gateway_alternatives(policy), *({name: scopes} for name, scopes in logins.items())]:
                found.setdefault(repr(sorted((own | needs).items())), own | needs)
        requirements = list(found.values()) or self._gateway_alternatives(policy)
        return [] if requirements == [{}] else requirements

    def _gateway_alternatives(self, policy: RoutePolicy) -> list[Requirement]:
        if not policy.needs_token:
            return [{}]
        names = (BEARER,) if self._facts.token_cookie is None else (BEARER, COOKIE)
        return [{name: list(policy.scopes)} for name in names]

    def _requirement(self, alternative: dict[str, Any], location: Location, *, with_token: bool) -> Requirement | None:
        """The schemes of the service's alternative that clients have to use in addition to the gateway's; None if
        clients can't use this alternative."""
        needs: Requirement = {}
        for name, scopes in alternative.items():
            scheme = self._rewriter.scheme(name)
            sent = how_sent(scheme, self._facts)
            if sent is SentAs.OTHER_AUTHORIZATION and with_token:
                self._omissions.add(
                    location, "clients can't send it in addition to the token that the gateway requires"
                )
                return None
            if sent is SentAs.NOTHING:
                reason = NOWHERE if scheme is None else "clients of the gateway can't send it to the service"
                self._omissions.add((location, name), reason)
                continue
            if sent is SentAs.BEARER_TOKEN and with_token:
                continue
            if new_name := self._rewriter.scheme_name(name):
                needs[new_name] = texts(scopes)
        return needs

    def _logins(self, alternative: dict[str, Any]) -> Requirement:
        """The schemes by which clients get a token through the gateway for a name and a password, with their scopes."""
        named = {self._rewriter.login_name(name): texts(scopes) for name, scopes in alternative.items()}
        return {name: scopes for name, scopes in named.items() if name is not None}


def texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def how_sent(scheme: dict[str, Any] | None, facts: GatewayFacts) -> SentAs:
    kind = scheme.get("type") if scheme else None
    if scheme is None or kind not in ("apiKey", "http", "oauth2", "openIdConnect"):
        return SentAs.NOTHING
    if kind == "apiKey":
        name = str(scheme.get("name")).lower()
        if scheme.get("in") != "header":
            return SentAs.API_KEY
        if name == "authorization":
            return SentAs.BEARER_TOKEN
        return SentAs.NOTHING if is_dropped_header(name, facts) else SentAs.API_KEY
    if kind == "http" and str(scheme.get("scheme")).lower() != "bearer":
        return SentAs.OTHER_AUTHORIZATION
    return SentAs.BEARER_TOKEN


def is_dropped_header(name: str, facts: GatewayFacts) -> bool:
    """Whether services never receive a client's header of this name. gunicorn drops
    headers whose names have an underscore."""
    stripped = {normal(header) for header in facts.stripped_headers}
    return "_" in name or normal(name) in stripped or is_never_forwarded(normal(name))
