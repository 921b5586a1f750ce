"""Route policies inherit from their service, and the most specific policy takes precedence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway import create_app
from gateway.config import load_settings
from gateway.proxy.timeouts import Timeouts
from gateway.route_policy import LimitLevel, RateLimitPolicy, RoutePolicy, policies_of
from tests.support.configuration import devices, loaded
from tests.support.gateway import GatewayProcess
from tests.support.tokens import SECRET, bearer
from tests.support.upstream import ScriptedUpstream

# The timeouts of a service without settings.
LIMITS = Timeouts(2, 30, 30)


def policies(**values: Any) -> dict[str, RoutePolicy]:
    """The policies of the service `devices` with these settings, by name of the policy."""
    found = loaded(devices(**values))
    return {policy.name: policy for policy in policies_of(found) if policy.service == "devices"}


def route(path: str, *methods: str, **more: Any) -> dict[str, Any]:
    return {"path": f"/api/devices{path}", "methods": list(methods), **more}


def quota(*levels: tuple[str, ...]) -> RateLimitPolicy:
    return RateLimitPolicy(tuple(LimitLevel(name, tuple(limits), {}) for name, *limits in levels), 1, False, "local")


def test_the_built_in_services() -> None:
    found = [
        (policy.name, policy.path, policy.methods, policy.needs_token) for policy in policies_of(load_settings({}))
    ]
    by_address = [policy.name for policy in policies_of(load_settings({})) if policy.rate_limit.by_address]
    assert by_address == ["auth.login_post", "auth.register_post"]
    assert found == [
        ("auth.login_post", "/api/auth/login", ("POST",), False),
        ("auth.register_post", "/api/auth/register", ("POST",), False),
        ("auth.refresh_post", "/api/auth/refresh", ("POST",), False),
        ("auth", "/api/auth/**", (), True),
        ("livestreams", "/api/livestreams/**", (), True),
        ("rules", "/api/rules/**", (), True),
        ("devices", "/api/devices/**", (), True),
    ]


def test_a_service_has_one_policy_for_all_below_its_prefix() -> None:
    found = policies(auth="none", limits=["5/minute", "1/second"], encoded_slashes="forward")
    assert found == {
        "devices": RoutePolicy(
            service="devices",
            name="devices",
            path="/api/devices/**",
            methods=(),
            needs_token=False,
            scopes=(),
            encoded_slashes=True,
            rate_limit=quota(("devices", "5/minute", "1/second")),
            time_limits=LIMITS,
        )
    }


def test_a_service_at_the_root_has_everything() -> None:
    found = loaded({"services": {"web": {"prefix": "/", "targets": ["http://h"], "routes": [{"path": "/**"}]}}})
    assert [policy.path for policy in policies_of(found) if policy.service == "web"] == ["/**", "/**"]


def test_what_a_route_leaves_out_is_its_services() -> None:
    found = policies(
        scopes=["devices:read"],
        limits=["5/minute"],
        encoded_slashes="forward",
        routes=[
            route("/a"),
            route("/b", "GET", auth="none", scopes=[], limits=[]),
            route("/c/**", scopes=["devices:admin"], limits=["1/minute"]),
        ],
    )
    service, admin = ("devices", "5/minute"), ("devices.c", "1/minute")
    assert found["devices.a"] == RoutePolicy(
        "devices", "devices.a", "/api/devices/a", (), True, ("devices:read",), True, quota(service), LIMITS
    )
    # The empty `limits` of this route mean the gateway's default limits.
    assert found["devices.b_get"] == RoutePolicy(
        "devices", "devices.b_get", "/api/devices/b", ("GET",), False, (), True, quota(), LIMITS
    )
    assert found["devices.c"] == RoutePolicy(
        "devices", "devices.c", "/api/devices/c/**", (), True, ("devices:admin",), True, quota(admin, service), LIMITS
    )


def test_what_is_said_of_a_quota_further_out_holds_further_in() -> None:
    tree = devices(
        cost=2,
        limits_mode="observe",
        plans={"pro": ["9/minute"]},
        count_by="address",
        routes=[
            route("/a"),
            route(
                "/b",
                count_by="principal",
                cost=0,
                limits_mode="enforce",
                on_redis_failure="open",
                plans={"pro": ["1/day"]},
            ),
        ],
    )
    settings = loaded(tree | {"ratelimit": {"on_redis_failure": "closed"}})
    found = {one.name: one.rate_limit for one in policies_of(settings)}
    service = LimitLevel("devices", (), {"pro": ("9/minute",)})
    assert found["rules"] == RateLimitPolicy((), 1, False, "closed")
    assert found["devices"] == found["devices.a"] == RateLimitPolicy((service,), 2, True, "closed", by_address=True)
    own = LimitLevel("devices.b", (), {"pro": ("1/day",)})
    assert found["devices.b"] == RateLimitPolicy((own, service), 0, False, "open")


def test_a_route_can_need_a_token_where_its_service_does_not() -> None:
    found = policies(auth="none", routes=[route("/admin", auth="required", scopes=["admin"])])
    assert {name: (policy.needs_token, policy.scopes) for name, policy in found.items()} == {
        "devices": (False, ()),
        "devices.admin": (True, ("admin",)),
    }


@pytest.mark.parametrize(
    ("path", "methods", "name"),
    [
        ("/login", ["POST"], "login_post"),
        ("/login", [], "login"),
        ("/{id}/log-file.txt", ["GET", "PUT"], "id_log_file_txt_get_put"),
        ("/a/**", ["M-SEARCH"], "a_m-search"),
        ("/**", [], "route"),
        ("", [], "route"),
        ("", ["GET"], "get"),
        ("/~", [], "route"),
    ],
)
def test_a_routes_name_tells_what_it_is(path: str, methods: list[str], name: str) -> None:
    assert f"devices.{name}" in policies(routes=[route(path, *methods)])


def test_names_are_not_given_twice() -> None:
    found = policies(routes=[route("/a/b"), route("/a-b"), route("/a.b"), route("/a_b_2"), route("/{a}/b", "X")])
    assert list(found) == [
        "devices.a_b_x",
        "devices.a_b",
        "devices.a_b_2",
        "devices.a_b_3",
        "devices.a_b_2_2",
        "devices",
    ]


def test_of_the_same_paths_the_more_specific_comes_first_and_the_service_last() -> None:
    routes = [route("/**", "PUT"), route("/**"), route("/a"), route("", "POST"), route("/a", "GET"), route("")]
    assert [(policy.path, policy.methods) for policy in policies(routes=routes).values()] == [
        ("/api/devices", ("POST",)),
        ("/api/devices/a", ("GET",)),
        ("/api/devices/a", ()),
        ("/api/devices", ()),
        ("/api/devices/**", ("PUT",)),
        ("/api/devices/**", ()),
        ("/api/devices/**", ()),
    ]


SCOPES = "devices below-put a a-get prefix-post any-delete b b-c b-patch log inner".split()


@pytest.fixture(scope="module")
def guarded(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway in which each policy requires a scope with the name of its route."""
    routes = [
        route("/**", "PUT", scopes=["below-put"]),
        route("/a", scopes=["a"]),
        route("/a", "GET", scopes=["a-get"]),
        route("", "POST", scopes=["prefix-post"]),
        route("/{id}", "DELETE", scopes=["any-delete"]),
        route("/b/**", scopes=["b"]),
        route("/b/c", scopes=["b-c"]),
        route("/{id}/log", scopes=["log"]),
        route("/b", "PATCH", scopes=["b-patch"]),
    ]
    inner = {"prefix": "/api/devices/inner", "targets": [module_upstream.url], "scopes": ["inner"]}
    outer = {"targets": [module_upstream.url], "scopes": ["devices"], "routes": routes}
    return start_gateway({"services": {"devices": outer, "inner": inner}}, workers=1)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "", "devices"),
        ("POST", "", "prefix-post"),
        ("POST", "/", "prefix-post"),
        ("PUT", "", "below-put"),
        ("PUT", "/", "below-put"),
        ("PUT", "/x/y", "below-put"),
        ("GET", "/x/y", "devices"),
        ("GET", "/a", "a-get"),
        ("HEAD", "/a", "a-get"),
        ("GET", "/a/", "a-get"),
        ("PUT", "/a", "a"),
        ("PROPFIND", "/a", "a"),
        ("GET", "/a/x", "devices"),
        ("DELETE", "/x", "any-delete"),
        ("GET", "/x", "devices"),
        ("PUT", "/x", "below-put"),
        ("GET", "/b", "b"),
        ("PUT", "/b/x", "b"),
        ("GET", "/b/", "b"),
        ("GET", "/b/c", "b-c"),
        ("GET", "/b/c/", "b-c"),
        ("PATCH", "/b", "b-patch"),
        ("PATCH", "/b/", "b-patch"),
        ("PATCH", "/b/x", "b"),
        ("GET", "/b/c/d", "b"),
        ("GET", "/x/log", "log"),
        ("PUT", "/x/log", "log"),
        ("GET", "/inner", "inner"),
        ("PUT", "/inner/x", "inner"),
    ],
)
def test_the_most_specific_policy_counts(guarded: GatewayProcess, method: str, path: str, scope: str) -> None:
    target = f"/api/devices{path}"
    others = " ".join(one for one in SCOPES if one != scope)
    assert guarded.request(method, target, [bearer(scope=others)]).status == 403
    assert guarded.request(method, target, [bearer(scope=scope)]).status == 200


def test_each_service_has_its_own_guards_once() -> None:
    services = {name: {"health": {"path": "/health"}} for name in ("auth", "rules")}
    app = create_app(loaded({"jwt": {"secret": SECRET}, "services": services}))
    counts = {name: len(app.before_request_funcs[name]) for name in ("auth", "livestreams", "rules", "devices")}
    assert counts == {"auth": 2, "livestreams": 2, "rules": 2, "devices": 2}


def test_what_is_undocumented_is_the_routes_own_matter() -> None:
    found = policies(undocumented="refuse", routes=[route("/a"), route("/socket", undocumented="allow")])
    assert {name: policy.undocumented for name, policy in found.items()} == {
        "devices": "refuse",
        "devices.a": "refuse",
        "devices.socket": "allow",
    }
