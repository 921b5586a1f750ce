"""URL rules of the gateway for Werkzeug's router: each service rule carries its policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from werkzeug.routing import BaseConverter, Rule

from gateway.config.validators import REFUSED_METHODS
from gateway.route_policy import RoutePolicy

ANY_METHOD = "*"


class AnyMethod(frozenset[str]):
    """The methods of a rule that accepts every method token (RFC 9110 9.1) but CONNECT and TRACE.

    `flask routes` shows it as `*`."""

    def __contains__(self, method: object) -> bool:
        return method not in REFUSED_METHODS


class PolicyRule(Rule):
    """A URL rule with the policy of the requests that match it."""

    def __init__(self, string: str, *, policy: RoutePolicy | None = None, **options: Any) -> None:
        super().__init__(string, **options)
        self.policy = policy
        if self.methods == {ANY_METHOD}:
            self.methods = AnyMethod(self.methods)  # type: ignore[assignment]

    def get_empty_kwargs(self) -> dict[str, Any]:
        return {**super().get_empty_kwargs(), "policy": self.policy}

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        """Delays making the function that builds a URL of this rule. Only `url_for` needs it, which the gateway never
        calls. Werkzeug would compile two functions for each rule: 60 ms of each start with the built-in services."""

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            return compile_builder(append_unknown)(rule, **values)

        compile_builder = super()._compile_builder
        return build


class RestConverter(BaseConverter):
    """Matches everything below a prefix. Unlike Werkzeug's `path` it matches empty segments, too. It matches at least
    one character, so the prefix with a final slash is the path of the prefix itself."""

    part_isolating = False
    regex = "(?s:.+)"
    weight = 300


def policy_of(rule: Rule | None) -> RoutePolicy | None:
    """The policy of a service's rule; None for a rule of the gateway's own routes, and without a rule."""
    return rule.policy if isinstance(rule, PolicyRule) else None


def rules_of(policy: RoutePolicy) -> list[str]:
    """The Werkzeug rules of a policy: its path, `/a/{id}` as `/a/<id>`, and for `/**` everything below it. No other
    character of a configured path is special to Werkzeug."""
    path = re.sub(r"\{(\w+)\}", r"<\1>", policy.path.removesuffix("/**"))
    return [*([f"{path}/<rest:path>"] if policy.path.endswith("/**") else []), path or "/"]
