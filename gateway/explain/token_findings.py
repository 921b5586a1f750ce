"""What came of the stages, in words: who is calling, and whether they are let in."""

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

LAST_SHOWN = 253402300799  # the end of the year 9999, seconds since 1970


def token_finding(case: Case) -> Finding:
    course = case.course
    if missing := case.not_reached("token"):
        return missing
    if course.stopped_at == "token":
        return Finding("token", "refused", case.refusal)
    facts = said_by_header(case)
    if course.verified is not None:
        who = course.verified
        return Finding("token", "good", f"sub {who.subject}", {**facts, **told_of(case, who)})
    problem = course.exchange.token_problem
    if problem is None:
        return Finding("token", "none", "")
    is_missing = problem.code == "missing_token"
    if not is_missing:
        facts = {**facts, "problem": problem.code, "reason": problem.reason}
        if fetched := fetched_keys(case):
            facts["keys"] = fetched
    return Finding("token", "none" if is_missing else "bad", problem.detail, facts)


def said_by_header(case: Case) -> dict[str, Any]:
    """What the token's own header says of how it is signed: not believed before it is verified."""
    try:
        token = presented_token(case.course.exchange.headers, case.settings.jwt.cookie)
        header = jwt.get_unverified_header(token)
    except (GatewayError, jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return {}
    return {name: str(header[name])[:100] for name in ("alg", "kid", "typ") if name in header}


def told_of(case: Case, who: Principal) -> dict[str, Any]:
    facts: dict[str, Any] = {"issuer": who.issuer} if who.issuer else {}
    if who.token_id is not None:
        facts["jti"] = str(who.token_id)
    else:
        facts["jti"] = "none: `flask revoke --token -` can revoke it"
    if who.issued_at is not None:
        facts["issued at"] = shown_moment(who.issued_at) + ("" if "iat" in who.claims else ", by jwt.lifetime_seconds")
    else:
        facts["issued at"] = "not told (no iat): log out everywhere refuses this token and all later ones"
    facts["scopes"] = sorted(who.scopes)
    facts["good until"] = shown_moment(who.expires_at)
    facts["verified with"] = key_text(settings_of(case, who.issuer))
    return facts


def shown_moment(seconds: float) -> str:
    return iso(min(max(seconds, 0), LAST_SHOWN))


def settings_of(case: Case, issuer: str) -> KeySettings | IssuerSettings:
    return next((one for one in case.settings.jwt.issuers if one.issuer == issuer), case.settings.jwt)


def key_text(one: KeySettings) -> str:
    if one.jwks_url is not None:
        return f"a key of {redact_url(one.jwks_url)}, fetched for this"
    return f"the key in {one.public_key_file}" if one.public_key_file is not None else "the configured secret"


def fetched_keys(case: Case) -> str:
    """Which issuers' published keys were had, for a token that they did not verify."""
    jwt_settings, loaded = case.settings.jwt, case.course.keys_loaded
    texts = [
        f"{redact_url(one.jwks_url)} "
        + ("was fetched" if loaded.get(one.issuer or "") else "could not be fetched, or was not asked")
        for one in jwt_settings.all_issuers
        if one.jwks_url is not None
    ]
    return "; ".join(texts)


def revocation_finding(case: Case) -> Finding | None:
    """None where there is no token that could be revoked."""
    course, settings = case.course, case.settings.revocation
    if course.verified is None:
        return None
    if not settings.enabled:
        return Finding("revocation", "off", "revocation.enabled = false")
    marks, problem = course.exchange.limits.revocation_lookup, course.exchange.token_problem
    if course.exchange.principal is None and problem is not None and problem.reason == "revoked":
        return Finding("revocation", "revoked", problem.detail)
    if course.redis_state == "not configured":
        return Finding("revocation", "unknown", case.redis_note or "there is no Redis to keep them in")
    if marks is None or marks.values is None:
        if course.redis_state != "down":
            return Finding("revocation", "not looked up", "")
        effect = "is answered 503" if settings.on_redis_failure == "closed" else "passes"
        why = f"Redis fails; the token {effect}, as revocation.on_redis_failure = {settings.on_redis_failure}"
        return Finding("revocation", "unknown", why)
    return Finding("revocation", "ok", "neither the token nor its subject is revoked")


def authorization_finding(case: Case) -> Finding | None:
    """None where nothing is asked of the caller but what other stages ask."""
    course, policy = case.course, case.policy
    if course.stopped_at == "authorization" or (policy is None and course.status in (401, 403)):
        return Finding("authorization", "refused", case.refusal)
    if policy is None:
        return None
    if missing := case.not_reached("authorization"):
        return missing
    if not policy.needs_token:
        caller = "the caller is told to the service all the same" if course.exchange.principal else ""
        return Finding("authorization", "ok", "no token is needed" + (f"; {caller}" if caller else ""))
    return Finding(
        "authorization", "ok", f"has {' '.join(policy.scopes)}" if policy.scopes else "a good token is enough"
    )
