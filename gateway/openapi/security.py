"""What a client has to send to be let in: by the gateway's policy first, then by what the service asks for beside it.

Where the gateway needs a token, its own schemes stand in place of a service's bearer, OAuth 2 and OpenID Connect
schemes: all of them are the one Authorization field, and the gateway has checked it. Each way to send the token is an
alternative: the field, the cookie where there is one, and the field with a token that the service itself gives for a
name and a password, where the gateway routes its token URL. Where the gateway needs no token, that field passes
untouched, and what the service says of it stays true, under a prefixed name. A key in a header, cookie or query
(`apiKey`) always passes, so it is asked for beside the gateway's token. What can't come from a client is left out:
client certificates, which end at the gateway, and fields that the gateway drops or sets itself. Basic and other uses of
Authorization can't be sent beside a bearer token: such an alternative goes.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from gateway.http_fields import is_never_forwarded, normal
from gateway.openapi.inputs import GatewayFacts
from gateway.openapi.lookup import size_of
from gateway.openapi.omissions import NOWHERE, Omissions, Where
from gateway.openapi.rewriting import Rewriting
from gateway.route_policy import RoutePolicy

BEARER = "gatewayBearer"
COOKIE = "gatewayCookie"
NEVER_ARRIVES = "the gateway sets or drops this field, so a client can't send it"
# What an operation gets of a service's alternatives, in values and characters: they may be very many, and stand for all
# operations of a document.
MAX_DECLARED = 5_000
Requirement = dict[str, list[str]]


class Sent(Enum):
    """How what a scheme asks for reaches the service."""

    BESIDE = 0
    AS_BEARER = 1
    AS_OTHER_AUTHORIZATION = 2
    NOT_BY_CLIENTS = 3


class Security:
    """The Security Requirement Objects of one service's operations."""

    def __init__(self, rewriting: Rewriting, facts: GatewayFacts, omissions: Omissions) -> None:
        self._rewriting = rewriting
        self._facts = facts
        self._omissions = omissions
        self._known: dict[tuple[str, int], list[Requirement]] = {}

    def of(self, policy: RoutePolicy, declared: Any, where: Where) -> list[Requirement]:
        """The operation's `security` (OpenAPI 3.1.1 4.8.30): alternatives, each with all that it takes; `[]` where
        nothing is needed. `declared`, which stands there, is the service's own. Scopes that the policy asks for stand
        as roles."""
        # Most operations are secured by what the document says for all of them.
        key = policy.name, id(declared)
        if key not in self._known:
            self._known[key] = self._found(policy, declared if isinstance(declared, list) else [], where)
        return self._known[key]

    def _found(self, policy: RoutePolicy, alternatives: list[Any], where: Where) -> list[Requirement]:
        # By their text, as looking through a list would take very long for very many.
        found: dict[str, Requirement] = {}
        size = 0
        for index, alternative in enumerate(alternatives):
            if not isinstance(alternative, dict):
                continue
            size += size_of(alternative)
            if size > MAX_DECLARED:
                self._omissions.add((where, str(index)), "too many alternatives")
                continue
            needs = self._requirement(alternative, (where, str(index)), behind_token=policy.needs_token)
            if needs is None:
                continue
            logins = self._logins(alternative) if policy.needs_token else {}
            for way in [*self._own_ways(policy), *({name: scopes} for name, scopes in logins.items())]:
                found.setdefault(repr(sorted((way | needs).items())), way | needs)
        told = list(found.values()) or self._own_ways(policy)
        return [] if told == [{}] else told

    def _own_ways(self, policy: RoutePolicy) -> list[Requirement]:
        if not policy.needs_token:
            return [{}]
        names = (BEARER,) if self._facts.token_cookie is None else (BEARER, COOKIE)
        return [{name: list(policy.scopes)} for name in names]

    def _requirement(self, alternative: dict[str, Any], where: Where, *, behind_token: bool) -> Requirement | None:
        """What of the service's alternative is left for clients to send; None where it can't be met."""
        needs: Requirement = {}
        for name, scopes in alternative.items():
            scheme = self._rewriting.scheme(name)
            sent = how_sent(scheme, self._facts)
            if sent is Sent.AS_OTHER_AUTHORIZATION and behind_token:
                self._omissions.add(where, "it can't be sent beside the token that the gateway needs")
                return None
            if sent is Sent.NOT_BY_CLIENTS:
                reason = NOWHERE if scheme is None else "clients of the gateway can't send it to the service"
                self._omissions.add((where, name), reason)
                continue
            if sent is Sent.AS_BEARER and behind_token:
                continue
            if new_name := self._rewriting.scheme_name(name):
                needs[new_name] = texts(scopes)
        return needs

    def _logins(self, alternative: dict[str, Any]) -> Requirement:
        named = {self._rewriting.login_name(name): texts(scopes) for name, scopes in alternative.items()}
        return {name: scopes for name, scopes in named.items() if name is not None}


def texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def how_sent(scheme: dict[str, Any] | None, facts: GatewayFacts) -> Sent:
    kind = scheme.get("type") if scheme else None
    if scheme is None or kind not in ("apiKey", "http", "oauth2", "openIdConnect"):
        return Sent.NOT_BY_CLIENTS
    if kind == "apiKey":
        field = str(scheme.get("name")).lower()
        if scheme.get("in") != "header":
            return Sent.BESIDE
        if field == "authorization":
            return Sent.AS_BEARER
        return Sent.NOT_BY_CLIENTS if is_dropped_field(field, facts) else Sent.BESIDE
    if kind == "http" and str(scheme.get("scheme")).lower() != "bearer":
        return Sent.AS_OTHER_AUTHORIZATION
    return Sent.AS_BEARER


def is_dropped_field(name: str, facts: GatewayFacts) -> bool:
    """Whether a client's field of this name never arrives at a service. The server drops names with an underscore."""
    stripped = {normal(header) for header in facts.stripped_headers}
    return "_" in name or normal(name) in stripped or is_never_forwarded(normal(name))
