"""What the gateway does with an operation, told in the operation: its answers, its fields, its limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.openapi.gateway_components import (
    ANSWERS,
    PROBLEM_TYPE,
    answer_headers,
    problem_reference,
    quota_headers,
)
from gateway.openapi.inputs import GatewayFacts
from gateway.proxy.header_filter import may_reach_client
from gateway.route_policy import RoutePolicy

RATE_LIMIT = "x-ratelimit"


@dataclass(frozen=True, slots=True)
class PolicyNotes:
    """What an operation says of its policy, the same for all that have it: for people, and the fields for programs."""

    text: str
    fields: dict[str, Any]


def notes_on(policy: RoutePolicy, facts: GatewayFacts) -> PolicyNotes:
    fields = limits_told(policy, facts)
    return PolicyNotes("\n\n".join(paragraphs_on(policy, fields.get(RATE_LIMIT))), fields)


def tell(operation: dict[str, Any], policy: RoutePolicy, facts: GatewayFacts, notes: PolicyNotes) -> dict[str, Any]:
    """The operation with the answers that this policy can lead to. Its responses must be written out, not references.

    A status that the service answers too, by itself or within 4XX, 5XX or default, gets both shapes. There is no 404
    and no 405: the gateway forwards what is documented here. Nor is there what no client of this operation meets: 421,
    as the document itself came from a host that is served, 417, 501 and 505 for messages that no client library sends,
    and 500 for a failure of the gateway itself."""
    responses = operation.get("responses") or {}
    told = {
        status: response if status.startswith("x-") else with_headers(response, quota_headers(facts))
        for status, response in responses.items()
    }
    for status in own_statuses(operation, policy, facts):
        theirs = next((responses[key] for key in (status, f"{status[0]}XX", "default") if key in responses), None)
        told[status] = own_answer(status) if theirs is None else both(theirs, status, facts)
    description = operation.get("description")
    text = f"{description.rstrip()}\n\n{notes.text}" if description else notes.text
    return operation | {"description": text, "responses": told} | notes.fields


def own_statuses(operation: dict[str, Any], policy: RoutePolicy, facts: GatewayFacts) -> list[str]:
    """The statuses that the gateway may answer with by itself."""
    conditions = {
        "401": policy.needs_token,
        "403": policy.needs_token and bool(policy.scopes),
        "413": "requestBody" in operation,
        "429": facts.limits_enabled and policy.rate_limit.cost > 0 and not policy.rate_limit.observed,
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
    declared = {name.lower() for name in theirs.get("headers") or ()}
    # What the service says of WWW-Authenticate and Retry-After is true of its own answers; they pass as they are.
    own = {
        name: header
        for name, header in answer_headers(status).items()
        if name.lower() not in declared or not may_reach_client(name)
    }
    combined = with_headers(theirs, own | quota_headers(facts))
    return combined | {"description": text, "content": content}


def with_headers(response: dict[str, Any], headers: dict[str, Any]) -> dict[str, Any]:
    """The gateway's fields replace the service's own of the same name, as they do on the wire."""
    if not headers:
        return response
    names = {name.lower() for name in headers}
    declared = response.get("headers")
    kept = {name: header for name, header in (declared or {}).items() if name.lower() not in names}
    return response | {"headers": kept | headers if kept else headers}


def limits_told(policy: RoutePolicy, facts: GatewayFacts) -> dict[str, Any]:
    """`x-ratelimit`: the limits, the name that RateLimit-Policy has for them, those of callers on a plan and those
    without a valid token where they are others, and what a request costs where that is not one."""
    if not facts.limits_enabled or policy.rate_limit.cost == 0:
        return {}
    own = next((level for level in policy.rate_limit.levels if level.limits), None)
    by_address = policy.rate_limit.by_address
    told: dict[str, Any] = {"policy": "anonymous" if by_address else "default"}
    told["limits"] = [facts.anonymous_limit if by_address else facts.default_limit]
    if own is not None:
        told |= {"policy": own.name, "limits": list(own.limits)}
    plans = {name: list(texts) for level in reversed(policy.rate_limit.levels) for name, texts in level.plans.items()}
    if by_address:
        told["counted_by"] = "address"
    elif plans:
        told["plans"] = plans
    if policy.needs_token if own is not None else not by_address:
        told["without_token"] = [facts.anonymous_limit]
    if policy.rate_limit.cost != 1:
        told["cost"] = policy.rate_limit.cost
    if policy.rate_limit.observed:
        told["mode"] = "observe"
    return {RATE_LIMIT: told}


def paragraphs_on(policy: RoutePolicy, limits: dict[str, Any] | None) -> Iterator[str]:
    """What `security` and `x-ratelimit` say, in Markdown: viewers show neither roles nor extensions."""
    scopes = " and ".join(f"`{scope}`" for scope in policy.scopes)
    if not policy.needs_token:
        yield "Needs no token."
    else:
        yield f"Needs a token with {scopes}." if scopes else "Needs a token."
    if limits is None:
        return
    texts = [in_words(limits["limits"])]
    texts += [f"{in_words(own)} on the plan `{plan}`" for plan, own in limits.get("plans", {}).items()]
    if "without_token" in limits:
        texts.append(f"{in_words(limits['without_token'])} without a valid token")
    cost = f" Each request counts as {limits['cost']}." if "cost" in limits else ""
    by_address = " Counted by the client's address, whatever its token." if "counted_by" in limits else ""
    mode = " They are not enforced at the moment." if limits.get("mode") == "observe" else ""
    yield f"Limits: {', '.join(texts)}.{cost}{by_address}{mode}"


def in_words(limits: Sequence[str]) -> str:
    return " and ".join(f"`{limit}`" for limit in limits)
