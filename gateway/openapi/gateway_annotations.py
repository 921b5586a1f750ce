"""Annotates an operation with the gateway's own responses, the headers that it adds, and the limits that apply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.openapi.gateway_components import (
    PROBLEM_TYPE,
    RESPONSES,
    problem_reference,
    rate_limit_headers,
    response_headers,
)
from gateway.openapi.inputs import GatewayFacts
from gateway.proxy.header_filter import may_reach_client
from gateway.route_policy import RoutePolicy

RATE_LIMIT = "x-ratelimit"


@dataclass(frozen=True, slots=True)
class PolicyAnnotations:
    """The annotations that all operations with the same policy have: a description for people, fields for programs."""

    description: str
    fields: dict[str, Any]


def annotations_for(policy: RoutePolicy, facts: GatewayFacts) -> PolicyAnnotations:
    fields = rate_limit_field(policy, facts)
    return PolicyAnnotations("\n\n".join(description_paragraphs(policy, fields.get(RATE_LIMIT))), fields)


def annotate_operation(
    operation: dict[str, Any], policy: RoutePolicy, facts: GatewayFacts, annotations: PolicyAnnotations
) -> dict[str, Any]:
    """The operation with the annotations and with the responses that the gateway itself sends under this policy. The
    responses of the operation must be objects, not references.

    If the service documents a response of the same status, or one for 4XX, 5XX or `default`, the service's and the
    gateway's response are combined.

    Some statuses of the gateway are not documented. It sends 404 and 405 only for requests that it does not forward,
    but forwards all documented operations. It sends 421 for hosts that it does not serve, but the client got the
    document from a host that it serves. It sends 417, 501 and 505 only for messages that no client library sends, and
    500 only if the gateway itself fails."""
    given = operation.get("responses") or {}
    responses = {
        status: response if status.startswith("x-") else with_headers(response, rate_limit_headers(facts))
        for status, response in given.items()
    }
    for status in gateway_statuses(operation, policy, facts):
        theirs = next((given[key] for key in (status, f"{status[0]}XX", "default") if key in given), None)
        responses[status] = gateway_response(status) if theirs is None else combined_response(theirs, status, facts)
    text = operation.get("description")
    description = f"{text.rstrip()}\n\n{annotations.description}" if text else annotations.description
    return operation | {"description": description, "responses": responses} | annotations.fields


def gateway_statuses(operation: dict[str, Any], policy: RoutePolicy, facts: GatewayFacts) -> list[str]:
    """The statuses of the responses that the gateway itself can send for this operation."""
    conditions = {
        "401": policy.needs_token,
        "403": policy.needs_token and bool(policy.scopes),
        "413": "requestBody" in operation,
        "429": facts.limits_enabled and policy.rate_limit.cost > 0 and not policy.rate_limit.observed,
    }
    return [status for status in RESPONSES if conditions.get(status, True)]


def gateway_response(status: str) -> dict[str, Any]:
    return {"$ref": f"#/components/responses/{RESPONSES[status][0]}"}


def combined_response(theirs: dict[str, Any], status: str, facts: GatewayFacts) -> dict[str, Any]:
    """The Response Object of a status that both the service and the gateway send. `theirs` is the service's own."""
    content = dict(theirs.get("content") or {})
    problem: dict[str, Any] = {"schema": problem_reference()}
    if isinstance(existing := content.get(PROBLEM_TYPE), dict):
        problem = {**existing, "schema": {"anyOf": [existing.get("schema", True), problem_reference()]}}
    content[PROBLEM_TYPE] = problem
    text, own_text = str(theirs.get("description") or "").rstrip(), RESPONSES[status][1]
    description = f"{text}\n\nOr by the gateway: {own_text}" if text else own_text
    declared = {name.lower() for name in theirs.get("headers") or ()}
    # WWW-Authenticate and Retry-After of the service reach the client, so the service's description of them stays.
    headers = {
        name: header
        for name, header in response_headers(status).items()
        if name.lower() not in declared or not may_reach_client(name)
    }
    combined = with_headers(theirs, headers | rate_limit_headers(facts))
    return combined | {"description": description, "content": content}


def with_headers(response: dict[str, Any], headers: dict[str, Any]) -> dict[str, Any]:
    """The response with these headers added. They replace the service's headers of the same names, as at run time."""
    if not headers:
        return response
    names = {name.lower() for name in headers}
    declared = response.get("headers")
    others = {name: header for name, header in (declared or {}).items() if name.lower() not in names}
    return response | {"headers": others | headers if others else headers}


def rate_limit_field(policy: RoutePolicy, facts: GatewayFacts) -> dict[str, Any]:
    """The field `x-ratelimit`; empty if no limits apply. It always has the limits and their name in
    RateLimit-Policy. It has the limits of plans, and of requests without a valid token, if there are any; `counted_by`
    if requests with a token are counted by address, too; the cost of a request if it is not 1; and the mode if it is
    `observe`."""
    if not facts.limits_enabled or policy.rate_limit.cost == 0:
        return {}
    own = next((level for level in policy.rate_limit.levels if level.limits), None)
    by_address = policy.rate_limit.by_address
    entry: dict[str, Any] = {"policy": "anonymous" if by_address else "default"}
    entry["limits"] = [facts.anonymous_limit if by_address else facts.default_limit]
    if own is not None:
        entry |= {"policy": own.name, "limits": list(own.limits)}
    plans = {name: list(texts) for level in reversed(policy.rate_limit.levels) for name, texts in level.plans.items()}
    if by_address:
        entry["counted_by"] = "address"
    elif plans:
        entry["plans"] = plans
    if policy.needs_token if own is not None else not by_address:
        entry["without_token"] = [facts.anonymous_limit]
    if policy.rate_limit.cost != 1:
        entry["cost"] = policy.rate_limit.cost
    if policy.rate_limit.observed:
        entry["mode"] = "observe"
    return {RATE_LIMIT: entry}


def description_paragraphs(policy: RoutePolicy, limits: dict[str, Any] | None) -> Iterator[str]:
    """Paragraphs that repeat `security` and `x-ratelimit` in Markdown: viewers show neither scopes nor extensions."""
    scopes = " and ".join(f"`{scope}`" for scope in policy.scopes)
    if not policy.needs_token:
        yield "Requires no token."
    else:
        yield f"Requires a token with {scopes}." if scopes else "Requires a token."
    if limits is None:
        return
    texts = [joined(limits["limits"])]
    texts += [f"{joined(of_plan)} on the plan `{plan}`" for plan, of_plan in limits.get("plans", {}).items()]
    if "without_token" in limits:
        texts.append(f"{joined(limits['without_token'])} without a valid token")
    cost = f" Each request counts as {limits['cost']}." if "cost" in limits else ""
    by_address = " Counted by the client's address, even with a token." if "counted_by" in limits else ""
    mode = " The limits are not enforced at the moment." if limits.get("mode") == "observe" else ""
    yield f"Limits: {', '.join(texts)}.{cost}{by_address}{mode}"


def joined(limits: Sequence[str]) -> str:
    return " and ".join(f"`{limit}`" for limit in limits)
