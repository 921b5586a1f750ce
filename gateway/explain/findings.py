"""What came of each stage, in words: what a request is and where it goes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.config import Settings
from gateway.explain.dry_run import DryRunResult
from gateway.explain.simulated_request import SimulatedRequest
from gateway.http_fields import HeaderPairs
from gateway.route_policy import RoutePolicy
from gateway.stages.rate_limit_headers import OBSERVED_HEADER

# What Fetch lets pages send without asking for it.
SIMPLE_METHODS = frozenset(["GET", "HEAD", "POST"])


@dataclass(frozen=True)
class Finding:
    """A stage, its verdict in a word or two, and why. `facts` say more, each a text, a number or a list of those."""

    stage: str
    verdict: str
    why: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """All that a finding is made of."""

    settings: Settings
    asked: SimulatedRequest
    course: DryRunResult
    redis_note: str

    @property
    def policy(self) -> RoutePolicy | None:
        return self.course.exchange.policy

    @property
    def refusal(self) -> str:
        """Code and detail of the problem, as the client gets them."""
        problem = self.course.problem or {}
        code = str(problem.get("type", "")).rpartition(":")[2]
        return f"{code}: {problem['detail']}" if problem.get("detail") else code

    def not_reached(self, stage: str) -> Finding | None:
        """The finding about a stage that the request does not get to."""
        if stage in self.course.begun:
            return None
        return Finding(stage, "not reached", "")


def request_id_finding(case: Case) -> Finding:
    sent, given = case.asked.value("X-Request-Id"), case.course.exchange.request_id
    if sent is None:
        return Finding("request id", "made", "a new one for each request")
    if sent == given:
        return Finding("request id", "kept", given)
    return Finding("request id", "made", "the client's is not harmless: 1 to 128 of A-Z a-z 0-9 . _ ~ : = @ / + -")


def client_finding(case: Case) -> Finding:
    exchange, proxy = case.course.exchange, case.settings.proxy
    client, hops = exchange.client, proxy.trusted_hops
    believed = "Forwarded" if proxy.forwarding_fields == "forwarded" else "X-Forwarded-For"
    sent = [name for name in ("X-Forwarded-For", "Forwarded") if any(name == key for key, _ in exchange.headers)]
    if not hops:
        ignored = f"; {' and '.join(sent)} not believed" if sent else ""
        why = f"the connection's own address, as proxy.trusted_hops = 0{ignored}"
    elif client.address == client.peer:
        what = "holds no address there" if believed in sent else "is not there"
        why = f"the connection's own address: trusted_hops = {hops}, but {believed} {what}"
    else:
        why = f"by {believed}, trusted_hops = {hops}; the connection is from {client.peer}"
    return Finding("client", client.address, why, {"scheme": client.scheme, "host": client.host})


def host_finding(case: Case) -> Finding | None:
    """None where any host is served."""
    if "host" not in case.course.begun:
        return None
    host = case.course.exchange.environ.get("HTTP_HOST", "")
    if case.course.stopped_at == "host":
        return Finding("host", "refused", f"{host or 'none'}: {case.refusal}")
    return Finding("host", "ok", host)


def cors_finding(case: Case) -> Finding:
    course, settings = case.course, case.settings.cors
    origin, fields = case.asked.value("Origin"), cors_fields(course.answer)
    answered = course.stopped_at == "preflight"
    stage = "preflight" if answered else "cors"
    facts = {"answer": [f"{name}: {value}" for name, value in fields.items()]} if answered else {}
    if origin is None:
        return Finding(stage, "none", "no Origin was sent, so no page of another origin asks", facts)
    if fields.get("Access-Control-Allow-Origin") is None:
        what = "is not among cors.origins" if settings.origins else "is not allowed, as cors.origins is empty"
        return Finding(stage, "not allowed", f"{origin} {what}: the browser keeps the answer from the page", facts)
    if answered and (refused := preflight_refusal(case.asked, fields)):
        return Finding(stage, "not allowed", f"the browser won't send the request: {refused}", facts)
    credentials = ", with credentials" if fields.get("Access-Control-Allow-Credentials") == "true" else ""
    return Finding(stage, "allowed", f"{origin}{credentials}", facts)


def cors_fields(answer: HeaderPairs) -> dict[str, str]:
    return {name: value for name, value in answer if name.lower().startswith("access-control-")}


def preflight_refusal(asked: SimulatedRequest, fields: Mapping[str, str]) -> str:
    """Why a browser takes the answer for a no (Fetch, CORS-preflight fetch); empty where it is a yes."""
    method = asked.value("Access-Control-Request-Method") or ""
    if method not in {*words(fields.get("Access-Control-Allow-Methods")), *SIMPLE_METHODS}:
        return f"{method} is not among cors.methods"
    allowed = {name.lower() for name in words(fields.get("Access-Control-Allow-Headers"))}
    wanted = words(asked.value("Access-Control-Request-Headers"))
    missing = [name for name in wanted if name.lower() not in allowed]
    if missing:
        return f"{', '.join(missing)} not among cors.allow_headers"
    networks = ("Private-Network", "Local-Network")
    asked_for = [name for name in networks if asked.value(f"Access-Control-Request-{name}") == "true"]
    refused = [name for name in asked_for if fields.get(f"Access-Control-Allow-{name}") != "true"]
    return "cors.private_network = false" if refused else ""


def words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def path_finding(case: Case) -> Finding:
    course = case.course
    if course.stopped_at == "path":
        facts = {"another reading": course.bad_reading} if course.bad_reading is not None else {}
        return Finding("path", "refused", case.refusal, facts)
    target = course.exchange.target
    if target is None:
        return Finding("path", "not reached", "")
    why = target.path
    if target.is_ambiguous:
        why += " (servers could read it in several ways, but none leads to another policy)"
    return Finding("path", "ok", why)


def route_finding(case: Case) -> Finding:
    course, policy = case.course, case.policy
    if course.exchange.target is None:
        return Finding("route", "not reached", "")
    if course.stopped_at == "route":
        allow = [value for name, value in course.answer if name == "Allow"]
        return Finding("route", "none", case.refusal, {"allowed methods": allow} if allow else {})
    if policy is None:
        return Finding("route", "gateway", "the gateway answers this path itself")
    limits, quota = policy.time_limits, policy.rate_limit
    return Finding(
        "route",
        policy.name,
        f"{' '.join(policy.methods) or 'any method'} {policy.path}",
        {
            "service": policy.service,
            "token": "required" if policy.needs_token else "not needed",
            "scopes": list(policy.scopes),
            "limits": list(policy.limits) or ["those of ratelimit"],
            "cost": quota.cost,
            "counted by": "address" if quota.by_address else "principal, else address",
            "limits mode": "observe" if quota.observed else "enforce",
            "on redis failure": quota.on_redis_failure,
            "connect timeout": f"{limits.connect_seconds:g} s",
            "head timeout": f"{limits.head_seconds:g} s",
            "read timeout": f"{limits.read_seconds:g} s",
        },
    )


def quota_finding(case: Case) -> Finding:
    course, policy, quota = case.course, case.policy, case.course.exchange.limits
    if missing := case.not_reached("quota") if case.settings.ratelimit.enabled else None:
        return missing
    if not quota.checks:
        if not case.settings.ratelimit.enabled:
            return Finding("quota", "none", "ratelimit.enabled = false")
        if policy is None:
            return Finding("quota", "none", "limits hold for services' routes alone")
        if policy.rate_limit.cost == 0:
            return Finding("quota", "none", "the route costs nothing")
        return Finding("quota", "exempt", "by exempt_addresses or exempt_principals")
    facts: dict[str, Any] = {"redis": course.redis_state + (f", {case.redis_note}" if case.redis_note else "")}
    if course.redis_state == "down":
        facts["without redis"] = f"on_redis_failure = {quota.on_failure}" + (
            "; what each worker has counted for itself can't be seen from here" if quota.on_failure == "local" else ""
        )
    if course.stopped_at == "quota" and not quota.results:
        return Finding("quota", "refused", case.refusal, facts)
    if not quota.results:
        return Finding("quota", "uncounted", "Redis fails, and requests pass", facts)
    facts["limits"] = [
        {
            "name": name,
            "limit": limit_text(check.amount, check.window_seconds, check.algorithm, check.burst),
            "used": result.capacity - result.remaining - (check.cost if quota.passed else 0),
            "of": result.capacity,
            "takes": check.cost,
            "resets in": f"{math.ceil(result.reset_seconds)} s",
            "passes": result.passed,
        }
        for name, check, result in zip(quota.names, quota.checks, quota.results, strict=True)
    ]
    if quota.passed:
        return Finding("quota", "ok", "this request would pass", facts)
    if quota.observed:
        return Finding("quota", "over", f"it is only observed: {OBSERVED_HEADER} tells", facts)
    return Finding("quota", "refused", case.refusal, facts)


def limit_text(amount: int, window_seconds: int, algorithm: str, burst: int) -> str:
    return f"{amount}/{window_seconds} s" + {"fixed": " fixed", "bucket": f" burst {burst}"}.get(algorithm, "")


def document_finding(case: Case) -> Finding | None:
    """None where the service takes everything."""
    course, policy = case.course, case.policy
    mode = policy.undocumented if policy is not None else "allow"
    if mode == "allow":
        return None
    if missing := case.not_reached("document"):
        return missing
    facts = {"undocumented": mode}
    if not course.has_document:
        why = "no gateway has kept the service's document in Redis: while there is none, everything passes"
        return Finding("document", "unknown", why, facts)
    if course.stopped_at == "document":
        return Finding("document", "refused", case.refusal, facts)
    if course.exchange.is_undocumented:
        return Finding("document", "undocumented", "logged, and let through", facts)
    return Finding("document", "ok", "the service's document knows the operation", facts)


def body_finding(case: Case) -> Finding | None:
    """None where the request has none, or no service gets it."""
    policy, has_length = case.policy, case.asked.value("Content-Length") is not None
    if policy is None or not (has_length or case.asked.is_chunked):
        return None
    most = f"max_body_bytes = {case.settings.services[policy.service].max_body_bytes}"
    if case.course.status == 413:
        late = "; by then the service has got the beginning" if case.asked.is_chunked else ""
        return Finding("body", "refused", f"{case.refusal} ({most}{late})")
    return Finding("body", "ok" if case.course.is_sent else "not reached", most)


def own_access_finding(case: Case) -> Finding | None:
    """Who may ask what is for operators alone; None for everything else."""
    if "operators" not in case.course.begun:
        return None
    if case.course.stopped_at == "operators":
        return Finding("operators", "refused", case.course.exchange.error_cause.partition(": ")[2])
    return Finding("operators", "ok", "the address is among admin.allow")


def all_findings(case: Case, of_tokens: Sequence[Finding | None]) -> list[Finding]:
    """In the order of the stages; `of_tokens` are those about who is calling."""
    token, revocation, authorization = of_tokens
    found = [
        request_id_finding(case),
        client_finding(case),
        host_finding(case),
        cors_finding(case),
        path_finding(case),
        route_finding(case),
        token,
        quota_finding(case),
        revocation,
        own_access_finding(case),
        authorization,
        document_finding(case),
        body_finding(case),
    ]
    return [one for one in found if one is not None]
