"""Checks the path: it passes only if every way to read it leads to the same policy."""

from __future__ import annotations

import re

from flask import request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter, Rule

from gateway import context
from gateway.errors import AmbiguousPath, BadPath, BadRequest
from gateway.proxy.path_validation import (
    ENCODED_SLASH,
    PLAIN_BUT_FOR_CASE,
    RequestTarget,
    alternative_readings,
    caseless,
    parse_request_target,
)
from gateway.route_policy import RoutePolicy
from gateway.url_rules import policy_of

PLACEHOLDER = re.compile(r"(<[^>]*>)")
REST = "<rest:path>"


class PathCheck:
    """Compares the policy of a path with the policies that it would have on servers that read it in another way.

    `rules` are all URL rules of the application; `prepare` is to be called once they are complete."""

    _caseless_rules: MapAdapter
    # True if a rule has capital letters. On a server that ignores case, even a path in lower case could match such a
    # rule.
    _has_capitals: bool

    def __init__(self, rules: Map) -> None:
        self._rules = rules
        self._rivals: dict[tuple[str, str], re.Pattern[str] | None] = {}

    def prepare(self) -> None:
        """Builds the URL rules as a server that ignores case would read them."""
        rules = [type(one)(caseless_rule(one.rule), **one.get_empty_kwargs()) for one in self._rules.iter_rules()]
        caseless_map = Map(rules, strict_slashes=False, merge_slashes=False, converters=self._rules.converters)
        self._caseless_rules = caseless_map.bind("gateway")
        self._has_capitals = any(caseless_rule(one.rule) != one.rule for one in self._rules.iter_rules())

    def check(self) -> None:
        """Sets the exchange's target and policy. Raises BadPath if the service could read the path in another way than
        the gateway."""
        exchange = context.current()
        rule = request.url_rule
        policy = policy_of(rule)
        if exchange.raw_target == "*":
            raise BadRequest("the gateway does not support OPTIONS *")
        # Without a policy encoded slashes are accepted here: a path that no service has must get 404, not 400.
        target = parse_request_target(exchange.raw_target, encoded_slashes=policy is None or policy.encoded_slashes)
        routed_path = exchange.environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        if routed_path != target.path:
            raise BadPath("the path can be read in more than one way")
        if target.is_ambiguous or self._has_capitals:
            self._refuse_other_policies(target, rule, policy)
        exchange.target = target
        exchange.policy = policy

    def _refuse_other_policies(self, target: RequestTarget, rule: Rule | None, policy: RoutePolicy | None) -> None:
        """Raises AmbiguousPath if a server could read the path as one that has another policy."""
        if PLAIN_BUT_FOR_CASE.fullmatch(target.path):
            rivals = self._rivals_of(rule, policy) if rule is not None and policy is not None else None
            if rivals is None or not rivals.fullmatch(target.path):
                return
            readings = [target.path]
        elif policy is None and ENCODED_SLASH.search(target.raw_path):
            return
        else:
            readings = alternative_readings(target.raw_path)
        own = caseless_rule(rule.rule) if rule is not None and policy is not None else None
        for reading in readings:
            found = self._caseless_rule_at(caseless(reading))
            # Paths in the configuration that differ only in case may have different policies; that is intended.
            if policy_of(found) is not policy and (found is None or found.rule != own):
                raise AmbiguousPath(reading)

    def _caseless_rule_at(self, path: str) -> Rule | None:
        try:
            found, _ = self._caseless_rules.match(path, request.method, return_rule=True)
        except HTTPException:
            return None
        return found

    def _rivals_of(self, rule: Rule, policy: RoutePolicy) -> re.Pattern[str] | None:
        """A pattern of the paths that would get another policy than `policy` on a server that ignores case. None if
        `rule` matches no such paths, as with most services."""
        key = (rule.rule, policy.name)
        if key not in self._rivals:
            own = literal_beginning(rule.rule)
            # Only rules with the same or a longer literal beginning can take a path from `rule`: rules with a shorter
            # one match only the paths that more specific rules leave, whether case is ignored or not.
            others = sorted(
                {
                    pattern_of(one.rule)
                    for one in self._rules.iter_rules()
                    if policy_of(one) is not policy and literal_beginning(one.rule).startswith(own)
                }
            )
            self._rivals[key] = re.compile(f"(?:{'|'.join(others)})/?", re.IGNORECASE | re.ASCII) if others else None
        return self._rivals[key]


def caseless_rule(text: str) -> str:
    """Applies `caseless` to the segments of a rule that have no placeholder."""
    return "/".join(part if "<" in part else caseless(part) for part in text.split("/"))


def literal_beginning(text: str) -> str:
    """The part of a rule before its first placeholder, in the form of `caseless`."""
    return caseless_rule(text).partition("<")[0]


def pattern_of(text: str) -> str:
    """A regular expression that matches the paths of a rule."""
    parts = PLACEHOLDER.split(text)
    return "".join(
        (".+" if part == REST else "[^/]+") if index % 2 else re.escape(part) for index, part in enumerate(parts)
    )
