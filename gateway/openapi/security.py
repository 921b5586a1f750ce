"""What a client has to send to be let in: by the gateway's policy first, then by what the service asks for beside it.

Where the gateway needs a token, its own bearer scheme stands in place of a service's bearer, OAuth 2 and OpenID Connect
schemes: all of them are the one Authorization field, and the gateway has checked it. Where it needs none, that field
passes untouched, and what the service says of it stays true, under a prefixed name. A key in a header, cookie or query
(`apiKey`) always passes, so it is asked for beside the gateway's token. What can't come from a client is left out:
client certificates, which end at the gateway, fields that the gateway sets itself, and names with an underscore, which
it drops. Basic and other uses of Authorization can't be sent beside a bearer token: such an alternative goes.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from gateway.openapi.parts import GatewayFacts
from gateway.openapi.rewriting import Rewriting
from gateway.policies import Policy

BEARER = "gatewayBearer"
Requirement = dict[str, list[str]]


class Sent(Enum):
    """How what a scheme asks for reaches the service."""

    BESIDE = 0
    AS_BEARER = 1
    AS_OTHER_AUTHORIZATION = 2
    NOT_BY_CLIENTS = 3


def security_of(policy: Policy, declared: Any, rewriting: Rewriting, facts: GatewayFacts) -> list[Requirement]:
    """The operation's `security` (OpenAPI 3.1.1 4.8.30): alternatives, each with all that it takes; `[]` where nothing
    is needed. `declared` is the service's own. Scopes that the policy asks for stand as roles."""
    alternatives = [one for one in declared if isinstance(one, dict)] if isinstance(declared, list) else []
    own: Requirement = {BEARER: list(policy.scopes)} if policy.needs_token else {}
    # By their text, as looking through a list would take very long for very many.
    found: dict[str, Requirement] = {}
    for alternative in alternatives or [{}]:
        needs = requirement(alternative, rewriting, facts, behind_token=policy.needs_token)
        if needs is not None:
            found.setdefault(repr(sorted(needs.items())), own | needs)
    told = list(found.values())
    if policy.needs_token:
        return told or [own]
    return [] if told == [{}] else told


def requirement(
    alternative: dict[str, Any], rewriting: Rewriting, facts: GatewayFacts, *, behind_token: bool
) -> Requirement | None:
    """What of the service's alternative is left for clients to send; None where it can't be met."""
    needs: Requirement = {}
    for name, scopes in alternative.items():
        sent = how_sent(rewriting.scheme(name), facts)
        if sent is Sent.AS_OTHER_AUTHORIZATION and behind_token:
            return None
        if sent is Sent.NOT_BY_CLIENTS or (sent is Sent.AS_BEARER and behind_token):
            continue
        if new_name := rewriting.scheme_name(name):
            needs[new_name] = [scope for scope in scopes if isinstance(scope, str)] if isinstance(scopes, list) else []
    return needs


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
    """Whether a client's field of this name never arrives at a service."""
    lower = name.lower()
    stripped = {header.lower() for header in facts.stripped_headers}
    return "_" in lower or lower.startswith("x-gateway-") or lower in stripped
