"""Operations are annotated according to their policy, not to what the service declares."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.openapi import GatewayFacts
from tests.support.openapi import FACTS, assert_valid, document, merged, operation, part, resolve

PATH = "/api/s/x"
QUOTA_FIELDS = {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit-Policy", "RateLimit"}
LOGIN = {"path": PATH, "methods": ["POST"], "auth": "none", "scopes": []}
SCHEMES = {
    "bearer": {"type": "http", "scheme": "Bearer"},
    "basic": {"type": "http", "scheme": "basic"},
    "oauth": {"type": "oauth2", "flows": {"password": {"tokenUrl": "token", "scopes": {}}}, "description": "d"},
    "oauth_away": {"type": "oauth2", "flows": {"password": {"tokenUrl": "https://id/token", "scopes": {}}}},
    "oidc": {"type": "openIdConnect", "openIdConnectUrl": "https://id/.well-known/openid-configuration"},
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "query": {"type": "apiKey", "in": "query", "name": "key"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "session"},
    "authorization": {"type": "apiKey", "in": "header", "name": "AUTHORIZATION"},
    "identity": {"type": "apiKey", "in": "header", "name": "X-User-Id"},
    "underscore": {"type": "apiKey", "in": "header", "name": "api_key"},
    "tls": {"type": "mutualTLS"},
    "alias": {"$ref": "#/components/securitySchemes/key"},
    "odd/name": {"type": "apiKey", "in": "query", "name": "odd"},
    "strange": {"type": "strange"},
    "none": None,
}


def annotated(
    given: dict[str, Any], *, method: str = "get", facts: GatewayFacts = FACTS, **more: Any
) -> tuple[Any, Any]:
    """Annotates a service that has these settings and only this operation. Returns the operation and the merged
    document."""
    of_document = {key: more.pop(key) for key in ("security", "version") if key in more}
    components = {"securitySchemes": SCHEMES} | more.pop("components", {})
    doc = document({PATH: {method: given}}, components=components, **of_document)
    result = merged(part("s", doc, **more), facts=facts)
    return result["paths"][PATH][method], result


def security(declared: Any, **more: Any) -> Any:
    return annotated(operation(security=declared), **more)[0]["security"]


def needs(*scopes: str, **keys: list[str]) -> dict[str, list[str]]:
    return {"gatewayBearer": list(scopes), **keys}


def test_security_is_that_of_the_policy() -> None:
    assert annotated(operation())[0]["security"] == [needs()]
    assert annotated(operation(), scopes=["a:b", "c"])[0]["security"] == [needs("a:b", "c")]
    assert annotated(operation(), auth="none")[0]["security"] == []
    assert annotated(operation(), method="post", routes=[LOGIN], scopes=["a"])[0]["security"] == []
    assert annotated(operation(), method="put", routes=[LOGIN], scopes=["a"])[0]["security"] == [needs("a")]
    assert annotated(operation(), method="head")[0]["security"] == [needs()]
    assert annotated(operation(), method="options")[0]["security"] == [needs()]


@pytest.mark.parametrize(
    ("declared", "behind_token", "without"),
    [
        ([], [needs()], []),
        ([{}], [needs()], []),
        (None, [needs()], []),
        ("x", [needs()], []),
        ([None, 1], [needs()], []),
        ([{"bearer": []}], [needs()], [{"s_bearer": []}]),
        ([{"oidc": ["a"]}], [needs()], [{"s_oidc": ["a"]}]),
        ([{"oauth": ["a"]}, {"bearer": []}], [needs()], [{"s_oauth": ["a"]}, {"s_bearer": []}]),
        ([{"authorization": []}], [needs()], [{"s_authorization": []}]),
        ([{"basic": []}], [needs()], [{"s_basic": []}]),
        ([{"basic": []}, {"key": []}], [needs(s_key=[])], [{"s_basic": []}, {"s_key": []}]),
        ([{"key": []}], [needs(s_key=[])], [{"s_key": []}]),
        ([{"key": [], "bearer": []}], [needs(s_key=[])], [{"s_key": [], "s_bearer": []}]),
        ([{"key": []}, {}], [needs(s_key=[]), needs()], [{"s_key": []}, {}]),
        ([{"query": []}, {"cookie": []}], [needs(s_query=[]), needs(s_cookie=[])], [{"s_query": []}, {"s_cookie": []}]),
        ([{"alias": []}], [needs(s_key=[])], [{"s_key": []}]),
        ([{"odd/name": []}], [needs(s_odd_name=[])], [{"s_odd_name": []}]),
        ([{"identity": []}], [needs()], []),
        ([{"underscore": []}], [needs()], []),
        ([{"tls": []}], [needs()], []),
        ([{"unknown": []}], [needs()], []),
        ([{"strange": []}, {"none": []}], [needs()], []),
        ([{"key": None}], [needs(s_key=[])], [{"s_key": []}]),
    ],
)
def test_credentials_of_a_service_stay_if_clients_can_send_them(declared: Any, behind_token: Any, without: Any) -> None:
    assert security(declared) == behind_token
    assert security(declared, auth="none") == without
    # `security` of the document applies to operations that have no `security` of their own.
    assert annotated(operation(), security=declared)[0]["security"] == behind_token
    assert annotated(operation(security=[]), security=declared)[0]["security"] == [needs()]


def test_unused_schemes_and_relative_urls_are_left_out() -> None:
    _, result = annotated(operation(security=[{"oauth": []}, {"oauth_away": []}]), auth="none")
    assert result["components"]["securitySchemes"] == {
        "gatewayBearer": result["components"]["securitySchemes"]["gatewayBearer"],
        "s_oauth": {"type": "http", "scheme": "bearer", "description": "d"},
        "s_oauth_away": SCHEMES["oauth_away"],
    }
    assert_valid(result)


def test_security_scheme_of_the_gateway() -> None:
    scheme = annotated(operation())[1]["components"]["securitySchemes"]["gatewayBearer"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")


BODY: dict[str, Any] = {"requestBody": {"content": {"a/b": {}}}}


@pytest.mark.parametrize(
    ("given", "settings", "statuses"),
    [
        ({}, {}, "400 401 414 429 431 502 503 504"),
        ({}, {"scopes": ["a"]}, "400 401 403 414 429 431 502 503 504"),
        ({}, {"auth": "none"}, "400 414 429 431 502 503 504"),
        (BODY, {}, "400 401 413 414 429 431 502 503 504"),
        ({}, {"facts": GatewayFacts(limits_enabled=False)}, "400 401 414 431 502 503 504"),
    ],
)
def test_responses_of_the_gateway(given: Any, settings: Any, statuses: str) -> None:
    found, result = annotated(operation(**given), method="post", **settings)
    assert list(found["responses"]) == ["200", *statuses.split()]
    for status in statuses.split():
        response = resolve(result, found["responses"][status]["$ref"])
        assert response["content"]["application/problem+json"]["schema"] == {
            "$ref": "#/components/schemas/gateway_Problem"
        }
        assert "X-Gateway-Error" in response["headers"]
        assert ("Retry-After" in response["headers"]) == (status in ("429", "503"))
        assert ("WWW-Authenticate" in response["headers"]) == (status in ("401", "403"))
    assert_valid(result)


def test_operation_without_responses_has_those_of_the_gateway() -> None:
    givens: list[dict[str, Any]] = [{}, {"responses": None}, {"responses": []}]
    for responses in [*givens, {"responses": {"abc": {}, "200": None, "42": {}}}]:
        assert list(annotated(responses)[0]["responses"]) == ["400", "401", "414", "429", "431", "502", "503", "504"]


SERVICES = {
    "description": "Theirs.",
    "content": {"application/json": {"schema": {"title": "theirs"}}},
    "headers": {"x-own": {"schema": {}}},
}


@pytest.mark.parametrize("declared", ["401", "4XX", "default"])
@pytest.mark.parametrize("is_reference", [False, True])
def test_status_of_service_and_gateway_has_both_schemas(declared: str, is_reference: bool) -> None:
    response = {"$ref": "#/components/responses/E"} if is_reference else SERVICES
    given = {"responses": {declared: response}}
    found, result = annotated(given, components={"responses": {"E": SERVICES}})
    both = found["responses"]["401"]
    assert both["content"] == {
        "application/json": {"schema": {"title": "theirs"}},
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/gateway_Problem"}},
    }
    assert both["description"].startswith("Theirs.\n\nOr by the gateway: ")
    assert {"x-own", "WWW-Authenticate", "X-Gateway-Error", *QUOTA_FIELDS} == set(both["headers"])
    if declared != "401":
        declared_response = found["responses"][declared]
        assert (declared_response["description"], declared_response["content"]) == (
            SERVICES["description"],
            SERVICES["content"],
        )
    assert ("$ref" in found["responses"]["502"]) == (declared != "default")
    assert_valid(result)


def test_service_with_problem_documents_of_its_own() -> None:
    theirs = {"schema": {"title": "own problem"}, "example": {"status": 401}}
    found, _ = annotated({"responses": {"401": {"content": {"application/problem+json": theirs}}}})
    assert found["responses"]["401"]["content"]["application/problem+json"] == {
        "schema": {"anyOf": [{"title": "own problem"}, {"$ref": "#/components/schemas/gateway_Problem"}]},
        "example": {"status": 401},
    }


def test_description_of_a_services_own_challenge_stays() -> None:
    theirs = {"www-authenticate": {"description": "theirs"}, "x-gateway-error": {"description": "theirs"}}
    found, _ = annotated({"responses": {"401": {"description": "", "headers": theirs}, "503": {"description": ""}}})
    headers = found["responses"]["401"]["headers"]
    assert headers["www-authenticate"] == {"description": "theirs"}
    assert {"WWW-Authenticate", "x-gateway-error"}.isdisjoint(headers)
    assert "X-Gateway-Error" in headers
    assert "Retry-After" in found["responses"]["503"]["headers"]


def test_rate_limit_headers_replace_those_of_the_service_in_every_response() -> None:
    given = {
        "responses": {"200": {"description": "", "headers": {"x-ratelimit-limit": {}, "ETag": {}}}, "x-a": {"b": 1}}
    }
    found, result = annotated(given)
    assert set(found["responses"]["200"]["headers"]) == {"ETag", *QUOTA_FIELDS}
    assert found["responses"]["x-a"] == {"b": 1}
    assert all(field in resolve(result, found["responses"]["429"]["$ref"])["headers"] for field in QUOTA_FIELDS)
    unlimited, result = annotated(given, facts=GatewayFacts(limits_enabled=False))
    assert set(unlimited["responses"]["200"]["headers"]) == {"x-ratelimit-limit", "ETag"}
    assert "RateLimit" not in str(result["components"])


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        ({}, {"policy": "default", "limits": ["300/minute"], "without_token": ["60/minute"]}),
        ({"auth": "none"}, {"policy": "default", "limits": ["300/minute"], "without_token": ["60/minute"]}),
        (
            {"limits": ["1/second", "9/hour"]},
            {"policy": "s", "limits": ["1/second", "9/hour"], "without_token": ["60/minute"]},
        ),
        ({"limits": ["9/hour"], "auth": "none"}, {"policy": "s", "limits": ["9/hour"]}),
        (
            {"limits": ["9/hour"], "routes": [{"path": PATH, "limits": ["1/hour"]}]},
            {"policy": "s.x", "limits": ["1/hour"], "without_token": ["60/minute"]},
        ),
        (
            {"limits": ["9/hour"], "routes": [{"path": PATH, "scopes": ["a"]}]},
            {"policy": "s", "limits": ["9/hour"], "without_token": ["60/minute"]},
        ),
        (
            {"limits": ["9/hour"], "plans": {"pro": ["90/hour"]}, "cost": 3, "limits_mode": "observe", "auth": "none"},
            {"policy": "s", "limits": ["9/hour"], "plans": {"pro": ["90/hour"]}, "cost": 3, "mode": "observe"},
        ),
        (
            {"auth": "none", "count_by": "address", "plans": {"pro": ["90/hour"]}},
            {"policy": "anonymous", "limits": ["60/minute"], "counted_by": "address"},
        ),
        (
            {"limits": ["9/hour"], "count_by": "address"},
            {"policy": "s", "limits": ["9/hour"], "counted_by": "address", "without_token": ["60/minute"]},
        ),
        ({"cost": 0}, None),
        ({"facts": GatewayFacts(limits_enabled=False)}, None),
    ],
)
def test_limits_are_in_x_ratelimit(settings: Any, limits: Any) -> None:
    assert annotated(operation(), **settings)[0].get("x-ratelimit") == limits


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "Requires a token.\n\nLimits: `300/minute`, `60/minute` without a valid token."),
        ({"auth": "none"}, "Requires no token.\n\nLimits: `300/minute`, `60/minute` without a valid token."),
        (
            {"scopes": ["a:b", "c"], "limits": ["1/second", "9/hour"], "plans": {"pro": ["90/hour"]}, "cost": 3},
            "Requires a token with `a:b` and `c`.\n\nLimits: `1/second` and `9/hour`, `90/hour` on the plan `pro`, "
            "`60/minute` without a valid token. Each request counts as 3.",
        ),
        (
            {"limits": ["9/hour"], "auth": "none", "limits_mode": "observe"},
            "Requires no token.\n\nLimits: `9/hour`. The limits are not enforced at the moment.",
        ),
        (
            {"auth": "none", "count_by": "address"},
            "Requires no token.\n\nLimits: `60/minute`. Counted by the client's address, even with a token.",
        ),
        ({"cost": 0}, "Requires a token."),
        ({"facts": GatewayFacts(limits_enabled=False)}, "Requires a token."),
    ],
)
def test_description_has_scopes_and_limits(settings: Any, text: str) -> None:
    assert annotated(operation(), **settings)[0]["description"] == text
    assert annotated(operation(description="Theirs.\n"), **settings)[0]["description"] == f"Theirs.\n\n{text}"


def test_cookie_is_an_alternative_for_the_token() -> None:
    facts = GatewayFacts(token_cookie="session")
    found, result = annotated(operation(security=[{"key": []}, {}]), facts=facts, scopes=["a"])
    assert found["security"] == [
        {"gatewayBearer": ["a"], "s_key": []},
        {"gatewayCookie": ["a"], "s_key": []},
        {"gatewayBearer": ["a"]},
        {"gatewayCookie": ["a"]},
    ]
    scheme = result["components"]["securitySchemes"]["gatewayCookie"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "cookie", "session")
    assert_valid(result)
    assert annotated(operation(), facts=facts, auth="none")[0]["security"] == []
    assert "gatewayCookie" not in str(annotated(operation())[1])


@pytest.mark.parametrize(
    ("url", "at_gateway"),
    [
        ("token", "api/s/token"),
        ("/token", "api/s/token"),
        ("./token?tenant=1", "api/s/token?tenant=1"),
        ("api/s/token", "api/s/token"),
        ("/api/auth/login", "api/auth/login"),
        ("api/s/protected", None),
        ("nowhere", None),
        ("//host/api/auth/login", None),
        ("http://[h", None),
        ("https://id.example.com/token", None),
        ("", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_password_flow_stays_if_the_gateway_routes_its_token_url(
    version: str, url: Any, at_gateway: str | None
) -> None:
    flow = {"tokenUrl": url, "refreshUrl": url, "scopes": {"read": "to read"}}
    scheme = {
        "type": "oauth2",
        "flows": {"password": flow, "implicit": {"authorizationUrl": "/authorize", "scopes": {}}},
    }
    paths = {"/x": {"get": operation(security=[{"O": ["read"]}])}, "/token": {"post": operation()}}
    given = document(paths, version=version, components={"securitySchemes": {"O": scheme}}, servers=[{"url": "/api/s"}])
    routes = [{"path": "/api/s/token", "auth": "none", "methods": ["POST"], "scopes": []}]
    login = part("auth", None, routes=[{"path": "/api/auth/login", "auth": "none"}])
    result = merged(part("s", given, routes=routes, scopes=["read"]), login)
    found = result["paths"][PATH]["get"]["security"]
    if at_gateway is None:
        assert found == [needs("read")]
        return
    assert found == [needs("read"), {"s_O": ["read"]}]
    flows = result["components"]["securitySchemes"]["s_O"]["flows"]
    assert flows == {"password": {"tokenUrl": at_gateway, "refreshUrl": at_gateway, "scopes": {"read": "to read"}}}
    assert_valid(result)


def test_headers_that_are_never_forwarded_are_not_parameters() -> None:
    parameters = [
        {"name": name, "in": place, "schema": {}}
        for name, place in [
            ("x-user-id", "header"), ("X-USER-SUBJECT", "header"), ("user_agent_of_mine", "header"),
            ("X-Gateway-Error", "header"), ("x-user-id", "query"), ("X-Other", "header"), ("Host", "header"),
            ("Connection", "header"), ("X-Request-ID", "header"), ("Forwarded", "header"), ("Proxy", "header"),
            ("X-Forwarded-Anything", "header"), ("CF-Connecting-IP", "header"), ("Upgrade", "header"),
        ]
    ]  # fmt: skip
    shared = {"parameters": {"U": parameters[0]}}
    given = operation(parameters=[{"$ref": "#/components/parameters/U"}, *parameters])
    found, result = annotated(given, components=shared)
    assert [(one["name"], one["in"]) for one in found["parameters"]] == [("x-user-id", "query"), ("X-Other", "header")]
    assert "s_U" not in str(result)
    doc = document({PATH: {"parameters": parameters[:1], "get": operation()}})
    assert "parameters" not in merged(part("s", doc))["paths"][PATH]


def test_trace_is_never_forwarded() -> None:
    doc = document({PATH: {"trace": operation(), "get": operation()}, "/api/s/y": {"trace": operation()}})
    found = merged(part("s", doc))["paths"]
    assert list(found) == [PATH]
    assert list(found[PATH]) == ["get"]


@pytest.mark.parametrize("settings", [{"cost": 0}, {"limits_mode": "observe"}])
def test_no_429_if_limits_are_not_enforced(settings: Any) -> None:
    assert "429" not in annotated(operation(), **settings)[0]["responses"]
    assert "429" in annotated(operation())[0]["responses"]
