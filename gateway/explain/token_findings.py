"""Describes the result of the stages that identify the caller: token, revocation, authorization."""

from __future__ import annotations

from typing import Any

import jwt

from gateway.config import IssuerSettings, KeySettings
from gateway.errors import GatewayError
from gateway.explain.findings import Case, Finding
from gateway.stages.authentication import presented_token
from gateway.timestamps import iso
from gateway.tokens.principal import Principal
from gateway.url_redaction import redact_url


def token_finding(case: Case) -> Finding:
    result = case.result
    if missing := case.not_reached("token"):
        return missing
    if result.stopped_at == "token":
        return Finding("token", "refused", case.refusal)
    facts = header_facts(case)
    if result.principal is not None:
        principal = result.principal
        return Finding("token", "valid", f"sub {principal.subject}", facts | principal_facts(case, principal))
    problem = result.exchange.token_problem
    if problem is None:
        return Finding("token", "none", "")
    if problem.code == "missing_token":
        return Finding("token", "none", problem.detail, facts)
    facts |= {"problem": problem.code, "reason": problem.reason}
    if keys := published_keys(case):
        facts["keys"] = keys
    return Finding("token", "invalid", problem.detail, facts)


def header_facts(case: Case) -> dict[str, Any]:
    """Algorithm, key id and type in the token's header. They are shown also for a token that is not verified."""
    try:
        token = presented_token(case.result.exchange.headers, case.settings.jwt.cookie)
        header = jwt.get_unverified_header(token)
    except (GatewayError, jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return {}
    return {name: str(header[name])[:100] for name in ("alg", "kid", "typ") if name in header}


def principal_facts(case: Case, principal: Principal) -> dict[str, Any]:
    facts: dict[str, Any] = {"issuer": principal.issuer} if principal.issuer else {}
    if principal.token_id is not None:
        facts["jti"] = str(principal.token_id)
    else:
        facts["jti"] = "none; `flask revoke --token -` can revoke the token"
    if principal.issued_at is not None:
        source = "" if "iat" in principal.claims else ", from exp and jwt.lifetime_seconds"
        facts["issued at"] = iso(principal.issued_at) + source
    else:
        facts["issued at"] = "unknown (no iat): `flask revoke --sub` refuses this token and all later ones"
    facts["scopes"] = sorted(principal.scopes)
    facts["expires at"] = iso(principal.expires_at)
    facts["verified with"] = key_text(settings_of(case, principal.issuer))
    return facts


def settings_of(case: Case, issuer: str) -> KeySettings | IssuerSettings:
    return next((one for one in case.settings.jwt.issuers if one.issuer == issuer), case.settings.jwt)


def key_text(one: KeySettings) -> str:
    if one.jwks_url is not None:
        return f"a key of {redact_url(one.jwks_url)}, fetched for this command"
    return f"the key in {one.public_key_file}" if one.public_key_file is not None else "the configured secret"


def published_keys(case: Case) -> str:
    """A text that says which issuers' published keys were fetched. It helps to see why no key verified the token."""
    jwt_settings, loaded = case.settings.jwt, case.result.keys_loaded
    return "; ".join(
        f"{redact_url(one.jwks_url)} "
        + ("was fetched" if loaded.get(one.issuer or "") else "could not be fetched, or was not needed")
        for one in jwt_settings.all_issuers
        if one.jwks_url is not None
    )


def revocation_finding(case: Case) -> Finding | None:
    """Whether the token is revoked; None if no token was verified."""
    result, settings = case.result, case.settings.revocation
    if result.principal is None:
        return None
    if not settings.enabled:
        return Finding("revocation", "off", "revocation.enabled = false")
    lookup, problem = result.exchange.limits.revocation_lookup, result.exchange.token_problem
    if result.exchange.principal is None and problem is not None and problem.reason == "revoked":
        return Finding("revocation", "revoked", problem.detail)
    if result.redis_state == "not configured":
        return Finding("revocation", "unknown", f"{case.redis_note}, so no revocations are stored")
    if lookup is None or lookup.values is None:
        if result.redis_state != "down":
            return Finding("revocation", "not looked up", "")
        effect = "the response is 503" if settings.on_redis_failure == "closed" else "the token is accepted"
        reason = f"Redis can't be reached; {effect}, as revocation.on_redis_failure = {settings.on_redis_failure}"
        return Finding("revocation", "unknown", reason)
    return Finding("revocation", "ok", "neither the token nor its subject is revoked")


def authorization_finding(case: Case) -> Finding | None:
    """Whether the caller may use the route; None for the gateway's own routes, unless they refuse the caller (401,
    403)."""
    result, policy = case.result, case.policy
    if result.stopped_at == "authorization" or (policy is None and result.status in (401, 403)):
        return Finding("authorization", "refused", case.refusal)
    if policy is None:
        return None
    if missing := case.not_reached("authorization"):
        return missing
    if not policy.needs_token:
        note = "; the service receives the caller's identity" if result.exchange.principal else ""
        return Finding("authorization", "ok", f"no token is required{note}")
    reason = f"the token has {' '.join(policy.scopes)}" if policy.scopes else "a valid token is sufficient"
    return Finding("authorization", "ok", reason)
