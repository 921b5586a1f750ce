"""An operation gets the policy that its requests get at run time. There, Werkzeug chooses it by the application's
rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map

from gateway.config import RateLimitSettings, RouteSettings, ServiceSettings
from gateway.openapi.operation_policy import PolicyTable
from gateway.openapi.path_filter import path_matcher
from gateway.route_policy import RoutePolicy, service_policies
from gateway.url_rules import ANY_METHOD, PolicyRule, RestConverter, rules_of

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"]


def run_time_map(policies: Iterable[RoutePolicy]) -> Map:
    """The URL map that the application builds from the policies."""
    url_map = Map(converters={"rest": RestConverter}, merge_slashes=False, strict_slashes=False)
    for policy in policies:
        options: dict[str, Any] = {"methods": list(policy.methods or (ANY_METHOD,)), "policy": policy, "endpoint": "e"}
        for rule in rules_of(policy):
            url_map.add(PolicyRule(rule, **options))
    return url_map


def at_run_time(url_map: Map, method: str, path: str) -> RoutePolicy | None:
    try:
        rule, _ = url_map.bind("host").match(path, method, return_rule=True)
    except HTTPException:
        return None
    assert isinstance(rule, PolicyRule)
    return rule.policy


segment = st.sampled_from(["a", "b", "{x}", "{y}"])
paths = st.lists(segment, max_size=3).map(lambda found: "".join("/" + one for one in found))
routes: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    path=st.tuples(paths, st.sampled_from(["", "/**"])).map("".join),
    methods=st.lists(st.sampled_from(["GET", "POST", "PUT", "HEAD"]), max_size=2, unique=True),
)
templates = st.lists(st.sampled_from(["a", "b", "c", "{id}", "{id}.json", ""]), max_size=4).map(
    lambda found: "".join("/" + one for one in found)
)


def policies_for(given_routes: list[dict[str, Any]], prefixes: list[str]) -> list[RoutePolicy]:
    found: list[RoutePolicy] = []
    for index, prefix in enumerate(prefixes):
        own = []
        for one in given_routes:
            path = prefix.rstrip("/") + one["path"]
            if path and path.count("{x}") < 2 and path.count("{y}") < 2:
                own.append(RouteSettings(path=path, methods=tuple(one["methods"])))
        settings = ServiceSettings.model_construct(
            prefix=prefix, targets=("http://h",), auth="required", scopes=(), limits=(), routes=tuple(own),
            encoded_slashes="refuse",
        )  # fmt: skip
        found += service_policies(f"s{index}", settings, RateLimitSettings())
    return found


@settings(deadline=None)
@given(
    st.lists(routes, max_size=6),
    st.lists(st.sampled_from(["/p", "/", "/p/a", "/p/a/b", "/q"]), min_size=1, max_size=3, unique=True),
    st.lists(templates, min_size=1, max_size=8),
    st.sampled_from(["/p", "", "/q", "/p/a"]),
)
@example([{"path": "/{x}/**", "methods": []}, {"path": "/a", "methods": ["GET"]}], ["/p"], ["/a", "/a/", "/a//"], "/p")
def test_policy_is_the_one_at_run_time(
    given_routes: list[dict[str, Any]], prefixes: list[str], found: list[str], start: str
) -> None:
    policies = policies_for(given_routes, prefixes)
    url_map, table = run_time_map(policies), PolicyTable(policies)
    for template in found:
        path = start + template
        if path.startswith("//") or not path:
            continue  # refused before any policy is looked for
        # No configured path has this value, so only rules with a placeholder match.
        concrete = path.replace("{id}", "0-value")
        for method in METHODS:
            assert table.policy_for(method, path) is at_run_time(url_map, method, concrete), (method, path)


def test_methods_are_compared_without_regard_to_case() -> None:
    policies = policies_for([{"path": "/a", "methods": ["POST"]}], ["/p"])
    table = PolicyTable(policies)
    assert table.policy_for("post", "/p/a") is policies[0]
    assert table.policy_for("get", "/p/a") is policies[1]
    assert table.policy_for("get", "/q") is None
    assert table.policy_for("trace", "/p/a") is None


def test_template_with_very_many_segments() -> None:
    policies = policies_for([{"path": "/{x}/**", "methods": ["GET"]}], ["/p"])
    assert PolicyTable(policies).policy_for("GET", "/p" + "/a" * 100_000) is policies[0]


@pytest.mark.parametrize(
    ("pattern", "hidden", "shown"),
    [
        ("/a/b", ["/a/b", "/a/b/"], ["/a", "/a/bc", "/a/b/c", "/x/a/b"]),
        ("/a/b/", ["/a/b", "/a/b/"], ["/a/b/c"]),
        ("/a/internal/**", ["/a/internal", "/a/internal/", "/a/internal/x/{y}"], ["/a", "/a/internals"]),
        ("/a/{id}/x", ["/a/{device_id}/x", "/a/1/x"], ["/a/x", "/a/{b}/{c}/x", "/a/{b}"]),
        ("/a/*", ["/a/b", "/a/{b}"], ["/a/b/c", "/b/a"]),
        ("/a/*-x", ["/a/b-x", "/a/-x"], ["/a/b-y", "/a/b/c-x"]),
        ("/a/**/z", ["/a/z", "/a/b/z", "/a/b/{c}/z"], ["/a/b", "/z"]),
        ("/a.b/(c)", ["/a.b/(c)"], ["/axb/(c)", "/a.b/c"]),
        ("/**", ["/", "/a", "/a/b"], []),
        ("/", ["/"], ["/a"]),
    ],
)
def test_patterns_of_hidden_paths(pattern: str, hidden: list[str], shown: list[str]) -> None:
    is_hidden = path_matcher([pattern])
    assert [path for path in [*hidden, *shown] if is_hidden(path)] == hidden
    both = path_matcher(["/other", pattern])
    assert [path for path in [*hidden, *shown] if both(path)] == hidden
    assert both("/other")


def test_no_pattern_hides_nothing() -> None:
    assert not path_matcher([])("/a")
