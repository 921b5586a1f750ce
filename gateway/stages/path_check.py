"""The stage that checks the path: only a path that all servers read as one of the same policy goes on."""

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
    """Compares the policy that a path gets with those that it could get from servers that read it otherwise. `mappings`
    are all of the application's; `prepare` is called once they are complete."""

    _caseless_mappings: MapAdapter
    # Whether a path without capital letters, too, can be another one to servers that know no case.
    _has_capitals: bool

    def __init__(self, mappings: Map) -> None:
        self._mappings = mappings
        self._rivals: dict[tuple[str, str], re.Pattern[str] | None] = {}

    def prepare(self) -> None:
        """Makes the mappings as they are to servers that know no case."""
        rules = [type(one)(caseless_rule(one.rule), **one.get_empty_kwargs()) for one in self._mappings.iter_rules()]
        caseless_map = Map(rules, strict_slashes=False, merge_slashes=False, converters=self._mappings.converters)
        self._caseless_mappings = caseless_map.bind("gateway")
        self._has_capitals = any(caseless_rule(one.rule) != one.rule for one in self._mappings.iter_rules())

    def check(self) -> None:
        """Refuses a path that its service could read differently from the gateway. Raises BadPath."""
        exchange = context.current()
        rule = request.url_rule
        policy = policy_of(rule)
        if exchange.raw_target == "*":
            raise BadRequest("OPTIONS * asks about the gateway itself, which has no answer to it")
        # A path that no service gets is a 404, also with encoded slashes.
        target = parse_request_target(exchange.raw_target, encoded_slashes=policy is None or policy.encoded_slashes)
        decided_on = exchange.environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        if decided_on != target.path:
            raise BadPath("the path can be read in more than one way")
        if target.is_ambiguous or self._has_capitals:
            self._refuse_other_policies(target, rule, policy)
        exchange.target = target
        exchange.policy = policy

    def _refuse_other_policies(self, target: RequestTarget, rule: Rule | None, policy: RoutePolicy | None) -> None:
        """Raises AmbiguousPath where servers could read the path as one of another policy."""
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
            # Paths that the configuration tells apart by case alone are meant to be.
            if policy_of(found) is not policy and (found is None or found.rule != own):
                raise AmbiguousPath(reading)

    def _caseless_rule_at(self, path: str) -> Rule | None:
        try:
            found, _ = self._caseless_mappings.match(path, request.method, return_rule=True)
        except HTTPException:
            return None
        return found

    def _rivals_of(self, rule: Rule, policy: RoutePolicy) -> re.Pattern[str] | None:
        """A pattern of the paths below the rule's that servers which know no case could take for another policy's; None
        where there are none, as with most services."""
        key = (rule.rule, policy.name)
        if key not in self._rivals:
            own = beginning(rule.rule)
            # A rule that begins earlier matches only what narrower rules leave over, whatever the case.
            others = sorted(
                {
                    pattern_of(one.rule)
                    for one in self._mappings.iter_rules()
                    if policy_of(one) is not policy and beginning(one.rule).startswith(own)
                }
            )
            self._rivals[key] = re.compile(f"(?:{'|'.join(others)})/?", re.IGNORECASE | re.ASCII) if others else None
        return self._rivals[key]


def caseless_rule(text: str) -> str:
    """A rule for caseless paths."""
    return "/".join(part if "<" in part else caseless(part) for part in text.split("/"))


def beginning(text: str) -> str:
    """What all paths of a rule begin with, caseless."""
    return caseless_rule(text).partition("<")[0]


def pattern_of(text: str) -> str:
    """A regular expression of the paths of a rule."""
    parts = PLACEHOLDER.split(text)
    return "".join(
        (".+" if part == REST else "[^/]+") if index % 2 else re.escape(part) for index, part in enumerate(parts)
    )
