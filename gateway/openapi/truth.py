"""What the gateway does with an operation, told in the operation: its answers, its fields, its limits."""

from __future__ import annotations

import re
from typing import Any

from gateway.openapi.gateway_components import (
    ANSWERS,
    PROBLEM_TYPE,
    answer_headers,
    problem_reference,
    quota_headers,
)
from gateway.openapi.parts import GatewayFacts
from gateway.policies import Policy

STATUS = re.compile(r"[1-5](?:[0-9]{2}|XX)|default")  # OpenAPI 3.1.1 4.8.16


def tell(operation: dict[str, Any], policy: Policy, facts: GatewayFacts) -> dict[str, Any]:
    """The operation with the answers that this policy can lead to. Its responses must be written out, not references.

    A status that the service answers too, by itself or within 4XX, 5XX or default, gets both shapes. There is no 404
    and no 405: the gateway forwards what is documented here. Nor is there what no client of this operation meets: 421,
    as the document itself came from a host that is served, 417, 501 and 505 for messages that no client library sends,
    and 500 for a failure of the gateway itself."""
    declared = operation.get("responses")
    responses = {
        status: response
        for status, response in (declared if isinstance(declared, dict) else {}).items()
        if status.startswith("x-") or (STATUS.fullmatch(status) and isinstance(response, dict))
    }
    told = {
        status: response if status.startswith("x-") else with_headers(response, quota_headers(facts))
        for status, response in responses.items()
    }
    for status in own_statuses(operation, policy, facts):
        theirs = next((responses[key] for key in (status, f"{status[0]}XX", "default") if key in responses), None)
        told[status] = own_answer(status) if theirs is None else both(theirs, status, facts)
    return operation | {"responses": told} | limits_told(policy, facts)


def own_statuses(operation: dict[str, Any], policy: Policy, facts: GatewayFacts) -> list[str]:
    """The statuses that the gateway may answer with by itself."""
    conditions = {
        "401": policy.needs_token,
        "403": policy.needs_token and bool(policy.scopes),
        "413": "requestBody" in operation,
        "429": facts.limits_enabled and policy.quota.cost > 0 and not policy.quota.observed,
    }
    return [status for status in ANSWERS if conditions.get(status, True)]


def own_answer(status: str) -> dict[str, Any]:
    return {"$ref": f"#/components/responses/{ANSWERS[status][0]}"}


def both(theirs: dict[str, Any], status: str, facts: GatewayFacts) -> dict[str, Any]:
    """The service's response, or the gateway's, under one status."""
    content = dict(theirs.get("content") or {})
    problem: dict[str, Any] = {"schema": problem_reference()}
    if isinstance(existing := content.get(PROBLEM_TYPE), dict):
        problem = {**existing, "schema": {"anyOf": [existing.get("schema", True), problem_reference()]}}
    content[PROBLEM_TYPE] = problem
    description = str(theirs.get("description") or "").rstrip()
    text = f"{description}\n\nOr by the gateway: {ANSWERS[status][1]}" if description else ANSWERS[status][1]
    combined = with_headers(theirs, answer_headers(status) | quota_headers(facts))
    return combined | {"description": text, "content": content}


def with_headers(response: dict[str, Any], headers: dict[str, Any]) -> dict[str, Any]:
    """The gateway's fields replace the service's own of the same name, as they do on the wire."""
    if not headers:
        return response
    names = {name.lower() for name in headers}
    declared = response.get("headers")
    kept = {name: header for name, header in (declared or {}).items() if name.lower() not in names}
    return response | {"headers": kept | headers if kept else headers}


def limits_told(policy: Policy, facts: GatewayFacts) -> dict[str, Any]:
    """`x-ratelimit`: the limits, the name that RateLimit-Policy has for them, those of callers on a plan and those
    without a valid token where they are others, and what a request costs where that is not one."""
    if not facts.limits_enabled or policy.quota.cost == 0:
        return {}
    own = next((level for level in policy.quota.levels if level.limits), None)
    told: dict[str, Any] = {
        "policy": own.name if own is not None else "default",
        "limits": list(own.limits) if own is not None else [facts.default_limit],
    }
    plans = {name: list(texts) for level in reversed(policy.quota.levels) for name, texts in level.plans.items()}
    if plans:
        told["plans"] = plans
    if policy.needs_token or own is None:
        told["without_token"] = [facts.anonymous_limit]
    if policy.quota.cost != 1:
        told["cost"] = policy.quota.cost
    if policy.quota.observed:
        told["mode"] = "observe"
    return {"x-ratelimit": told}
