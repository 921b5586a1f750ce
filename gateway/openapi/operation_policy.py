"""Finds the policy that requests for a documented operation get at run time."""

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
    """A map of URL rules without a lock, because native threads merge the documents, and they must not use gevent's
    locks. It needs no lock: only one thread uses it while it is built, and it does not change afterwards."""

    lock_class = nullcontext  # type: ignore[assignment]


class PolicyTable:
    """Finds policies with the same router as at run time. `policies` are those of all services, in the order of
    `route_policy.policies_of`."""

    def __init__(self, policies: Iterable[RoutePolicy]) -> None:
        rules = [
            PolicyRule(rule, policy=policy, methods=policy.methods or (ANY_METHOD,), endpoint="service")
            for policy in policies
            for rule in rules_of(policy)
        ]
        # Without redirect_defaults: with it, each match would walk all rules of the endpoint.
        self._rules = UnlockedMap(
            rules,
            redirect_defaults=False,
            strict_slashes=False,
            merge_slashes=False,
            converters={"rest": RestConverter},
        )
        # Sorts the rules now: the first match would do it otherwise, when several threads may already use the table.
        self._rules.update()

    def policy_for(self, method: str, template: str) -> RoutePolicy | None:
        """The policy of a request for this path template; None if the gateway does not forward the request (404, 405).
        For the router, a placeholder in the template is a value. The value matches placeholders and `/**` of configured
        paths, but no literal segment, because literal segments have no braces."""
        try:
            rule, _ = self._rules.bind("gateway").match(template, method, return_rule=True)
        except HTTPException:
            return None
        return policy_of(rule)


def policy_table(parts: Iterable[ServiceDocument]) -> PolicyTable:
    """The policies of `parts`, which must be all services, because paths of one may be below the prefix of another."""
    return cached_table(tuple(policy for part in parts for policy in part.policies))


# Cached, because a process has one set of policies, but needs the table for every document after each change.
cached_table = lru_cache(maxsize=1)(PolicyTable)
