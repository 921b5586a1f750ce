"""Finds the policy of an operation in a document: the one that its requests get at run time."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from functools import lru_cache

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map

from gateway.openapi.inputs import ServiceDocument
from gateway.route_policy import RoutePolicy
from gateway.url_rules import ANY_METHOD, PolicyRule, RestConverter, policy_of, rules_of


class UnlockedMap(Map):
    """Not shared by threads while it is built. Native threads, which merge documents, must not use gevent's locks."""

    lock_class = nullcontext  # type: ignore[assignment]


class PolicyTable:
    """The policies of all services, found by the router that finds them at run time. `policies` are in the order of
    `route_policy.policies_of`."""

    def __init__(self, policies: Iterable[RoutePolicy]) -> None:
        rules = [
            PolicyRule(rule, policy=policy, methods=policy.methods or (ANY_METHOD,), endpoint="service")
            for policy in policies
            for rule in rules_of(policy)
        ]
        self._rules = UnlockedMap(rules, strict_slashes=False, merge_slashes=False, converters={"rest": RestConverter})
        # Otherwise the first match would, and several threads may share the finished table.
        self._rules.update()

    def policy_for(self, method: str, template: str) -> RoutePolicy | None:
        """The policy of a request for this path template; None if the gateway does not forward it (404, 405). A
        placeholder in the template is a value that no configured path has, as these have no braces."""
        try:
            rule, _ = self._rules.bind("gateway").match(template, method, return_rule=True)
        except HTTPException:
            return None
        return policy_of(rule)


def policy_table(parts: Iterable[ServiceDocument]) -> PolicyTable:
    """The policies of all services, of which none may be missing: their paths may be below another one's prefix."""
    return cached_table(tuple(policy for part in parts for policy in part.policies))


# A process has one set of policies, and needs the table for each document, whenever one has changed.
cached_table = lru_cache(maxsize=1)(PolicyTable)
