"""Describes the result of each stage: request id, client, host, CORS, path, route, rate limit, API document, body."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.config import Settings
from gateway.explain.dry_run import DryRunResult
from gateway.explain.simulated_request import SimulatedRequest
from gateway.http_fields import HeaderPairs
from gateway.route_policy import RoutePolicy
from gateway.stages.rate_limit_headers import OBSERVED_HEADER

# A preflight response need not list these methods (Fetch, "CORS-safelisted method").
SAFELISTED_METHODS = frozenset(["GET", "HEAD", "POST"])


@dataclass(frozen=True)
class Finding:
    """A stage, its verdict in a word or two, and the reason. The value of a fact is a text or a list of texts; the fact
    "limits" is a list of objects."""

    stage: str
    verdict: str
    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """What all findings are derived from. `redis_note` says which Redis was read, if none is configured."""

    settings: Settings
    simulated: SimulatedRequest
    result: DryRunResult
    redis_note: str

    @property
    def policy(self) -> RoutePolicy | None:
        return self.result.exchange.policy

    @property
    def refusal(self) -> str:
        """Code and detail of the problem document, as the client receives them."""
        problem = self.result.problem or {}
        code = str(problem.get("type", "")).rpartition(":")[2]
        return f"{code}: {problem['detail']}" if problem.get("detail") else code

    def not_reached(self, stage: str) -> Finding | None:
        """The finding about a stage that the request did not reach; None if the stage ran."""
        return None if stage in self.result.begun_stages else Finding(stage, "not reached", "")


def request_id_finding(case: Case) -> Finding:
    sent, used = case.simulated.value("X-Request-Id"), case.result.exchange.request_id
    if sent is None:
        return Finding("request id", "generated", "the request has no X-Request-Id")
    if sent == used:
        return Finding("request id", "accepted", used)
    reason = "X-Request-Id may only have 1 to 128 of A-Z a-z 0-9 . _ ~ : = @ / + -"
    return Finding("request id", "generated", reason)


def client_finding(case: Case) -> Finding:
    exchange, proxy = case.result.exchange, case.settings.proxy
    client, hops = exchange.client, proxy.trusted_hops
    trusted = "Forwarded" if proxy.forwarding_fields == "forwarded" else "X-Forwarded-For"
    sent = [name for name in ("X-Forwarded-For", "Forwarded") if any(name == key for key, _ in exchange.headers)]
    reason = f"address of the connection, as proxy.trusted_hops = {hops}"
    if not hops:
        reason += f"; {' and '.join(sent)} ignored" if sent else ""
    elif client.address == client.peer:
        reason = f"address of the connection: {trusted} " + (
            f"has no address for proxy.trusted_hops = {hops}" if trusted in sent else "is missing"
        )
    else:
        reason = f"from {trusted}, as proxy.trusted_hops = {hops}; the connection comes from {client.peer}"
    return Finding("client", client.address, reason, {"scheme": client.scheme, "host": client.host})


def host_finding(case: Case) -> Finding | None:
    """Whether the gateway serves the host; None if it serves every host."""
    if "host" not in case.result.begun_stages:
        return None
    host = case.result.exchange.environ.get("HTTP_HOST", "")
    if case.result.stopped_at == "host":
        return Finding("host", "refused", f"{host or 'no host'}: {case.refusal}")
    return Finding("host", "ok", host)


def cors_finding(case: Case) -> Finding:
    result, settings = case.result, case.settings.cors
    origin, headers = case.simulated.value("Origin"), cors_headers(result.response_headers)
    is_preflight = result.stopped_at == "preflight"
    stage = "preflight" if is_preflight else "cors"
    facts = {"response": [f"{name}: {value}" for name, value in headers.items()]} if is_preflight else {}
    if origin is None:
        return Finding(stage, "none", "the request has no Origin", facts)
    if headers.get("Access-Control-Allow-Origin") is None:
        reason = "is not in cors.origins" if settings.origins else "is not allowed, as cors.origins is empty"
        return Finding(stage, "not allowed", f"{origin} {reason}: the browser hides the response from the page", facts)
    if is_preflight and (refusal := preflight_refusal(case.simulated, headers)):
        return Finding(stage, "not allowed", f"the browser does not send the request: {refusal}", facts)
    credentials = ", with credentials" if headers.get("Access-Control-Allow-Credentials") == "true" else ""
    return Finding(stage, "allowed", f"{origin}{credentials}", facts)


def cors_headers(headers: HeaderPairs) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower().startswith("access-control-")}


def preflight_refusal(simulated: SimulatedRequest, headers: Mapping[str, str]) -> str:
    """Why a browser treats the response as a refusal (Fetch, "CORS-preflight fetch"); empty if it does not."""
    method = simulated.value("Access-Control-Request-Method") or ""
    if method not in {*comma_separated(headers.get("Access-Control-Allow-Methods")), *SAFELISTED_METHODS}:
        return f"{method} is not in cors.methods"
    allowed = {name.lower() for name in comma_separated(headers.get("Access-Control-Allow-Headers"))}
    requested = comma_separated(simulated.value("Access-Control-Request-Headers"))
    if missing := [name for name in requested if name.lower() not in allowed]:
        return f"{', '.join(missing)} not in cors.allow_headers"
    for network in ("Private-Network", "Local-Network"):
        is_requested = simulated.value(f"Access-Control-Request-{network}") == "true"
        if is_requested and headers.get(f"Access-Control-Allow-{network}") != "true":
            return "cors.private_network = false"
    return ""


def comma_separated(text: str | None) -> list[str]:
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def path_finding(case: Case) -> Finding:
    result = case.result
    if result.stopped_at == "path":
        facts = {"another reading": result.other_path} if result.other_path is not None else {}
        return Finding("path", "refused", case.refusal, facts)
    target = result.exchange.target
    if target is None:
        return Finding("path", "not reached", "")
    reason = target.path
    if target.is_ambiguous:
        reason += " (servers could read the path in several ways, all of which have the same policy)"
    return Finding("path", "ok", reason)


def route_finding(case: Case) -> Finding:
    result, policy = case.result, case.policy
    if result.exchange.target is None:
        return Finding("route", "not reached", "")
    if result.stopped_at == "route":
        allow = [value for name, value in result.response_headers if name == "Allow"]
        return Finding("route", "none", case.refusal, {"allowed methods": allow} if allow else {})
    if policy is None:
        return Finding("route", "gateway", "the gateway itself responds to this path")
    time_limits, limits = policy.time_limits, policy.rate_limit
    return Finding(
        "route",
        policy.name,
        f"{' '.join(policy.methods) or 'any method'} {policy.path}",
        {
            "service": policy.service,
            "token": "required" if policy.needs_token else "not required",
            "scopes": list(policy.scopes),
            "limits": list(policy.limits) or ["the defaults in ratelimit"],
            "cost": limits.cost,
            "counted by": "address" if limits.by_address else "principal; address without a token",
            "limits mode": "observe" if limits.observed else "enforce",
            "on redis failure": limits.on_redis_failure,
            "connect timeout": f"{time_limits.connect_seconds:g} s",
            "head timeout": f"{time_limits.head_seconds:g} s",
            "read timeout": f"{time_limits.read_seconds:g} s",
        },
    )


def rate_limit_finding(case: Case) -> Finding:
    stage, settings, result, policy = "rate limit", case.settings.ratelimit, case.result, case.policy
    limits = result.exchange.limits
    if settings.enabled and (missing := case.not_reached(stage)):
        return missing
    if not limits.checks:
        if not settings.enabled:
            return Finding(stage, "none", "ratelimit.enabled = false")
        if policy is None:
            return Finding(stage, "none", "only routes of services have limits")
        if policy.rate_limit.cost == 0:
            return Finding(stage, "none", "the route has cost = 0")
        return Finding(stage, "exempt", "by ratelimit.exempt_addresses or ratelimit.exempt_principals")
    facts: dict[str, Any] = {"redis": result.redis_state + (f", {case.redis_note}" if case.redis_note else "")}
    if result.redis_state == "not configured":
        facts["redis"] += ", so counters start at 0"
    if result.redis_state == "down":
        facts["without redis"] = f"on_redis_failure = {limits.on_failure}" + (
            "; the workers' own counters are not visible from here" if limits.on_failure == "local" else ""
        )
    if not limits.results:
        if result.stopped_at == stage:
            return Finding(stage, "refused", case.refusal, facts)
        return Finding(stage, "not counted", "Redis can't be reached, and requests pass", facts)
    facts["limits"] = [
        {
            "name": name,
            "limit": limit_text(check.amount, check.window_seconds, check.algorithm, check.burst),
            "used": limit.capacity - limit.remaining - (check.cost if limits.passed else 0),
            "capacity": limit.capacity,
            "cost": check.cost,
            "reset_seconds": math.ceil(limit.reset_seconds),
            "passes": limit.passed,
        }
        for name, check, limit in zip(limits.names, limits.checks, limits.results, strict=True)
    ]
    if limits.passed:
        return Finding(stage, "ok", "the request is within its limits", facts)
    if limits.observed:
        reason = f"the limit is not enforced (limits_mode = observe); {OBSERVED_HEADER} reports it"
        return Finding(stage, "exceeded", reason, facts)
    return Finding(stage, "refused", case.refusal, facts)


def limit_text(amount: int, window_seconds: int, algorithm: str, burst: int) -> str:
    return f"{amount}/{window_seconds} s" + {"fixed": " fixed", "bucket": f" burst {burst}"}.get(algorithm, "")


def document_finding(case: Case) -> Finding | None:
    """Whether the operation is in the service's API document; None if it need not be."""
    result, policy = case.result, case.policy
    mode = policy.undocumented if policy is not None else "allow"
    if mode == "allow":
        return None
    if missing := case.not_reached("document"):
        return missing
    facts = {"undocumented": mode}
    if not result.has_document:
        reason = "no gateway has stored the service's API document in Redis; without it, all operations pass"
        return Finding("document", "unknown", reason, facts)
    if result.stopped_at == "document":
        return Finding("document", "refused", case.refusal, facts)
    if result.exchange.is_undocumented:
        return Finding("document", "undocumented", "the request is logged and passes", facts)
    return Finding("document", "ok", "the operation is in the service's API document", facts)


def body_finding(case: Case) -> Finding | None:
    """Whether the body is within its limit; None if the request has no body or is not for a service."""
    policy, has_length = case.policy, case.simulated.value("Content-Length") is not None
    if policy is None or not (has_length or case.simulated.is_chunked):
        return None
    limit = f"max_body_bytes = {case.settings.services[policy.service].max_body_bytes}"
    if case.result.status == 413:
        note = "; the service has received the beginning of the body by then" if case.simulated.is_chunked else ""
        return Finding("body", "refused", f"{case.refusal} ({limit}{note})")
    return Finding("body", "ok" if case.result.would_forward else "not reached", limit)


def operators_finding(case: Case) -> Finding | None:
    """Whether the caller is an operator; None if the path is not for operators only."""
    if "operators" not in case.result.begun_stages:
        return None
    if case.result.stopped_at == "operators":
        return Finding("operators", "refused", case.result.exchange.error_cause.partition(": ")[2])
    return Finding("operators", "ok", "the address is in admin.allow")
