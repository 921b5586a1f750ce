"""Rate limits through the gateway: who shares a counter, what is charged, and which headers callers get."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from gateway.proxy.trusted_proxies import rate_limit_address
from gateway.rate_limiting.redis_counters import PREFIX
from tests.support.client import Connection, Reply, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.redis import RedisServer, calls_of, while_redis_answers
from tests.support.tokens import bearer, signed
from tests.support.upstream import ScriptedUpstream

QUOTA_FIELDS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy")
DEFAULT, ANONYMOUS = 60, 5
ORIGIN = "https://app.example.com"
numbers = count(1)


def fresh_subject() -> str:
    return f"caller-{next(numbers)}@example.com"


def fresh_address() -> str:
    """An address of this machine that no test has used yet."""
    number = next(numbers)
    return f"127.1.{number // 250}.{number % 250 + 1}"


def settings_for(url: str) -> dict[str, Any]:
    settings = four_services(url)
    # The windows are a day long, so that no request leaves its window while a test runs.
    settings["ratelimit"] = {"default": f"{DEFAULT}/day", "anonymous": f"{ANONYMOUS}/day"}
    settings["cors"] = {"origins": [ORIGIN]}
    settings["services"]["auth"]["routes"] = [
        {"path": "/api/auth/login", "methods": ["POST"], "auth": "none", "limits": ["3/minute"]},
        {"path": "/api/auth/refresh", "methods": ["POST"], "auth": "none"},
        {"path": "/api/auth/register", "methods": ["POST"], "auth": "none", "count_by": "address"},
    ]
    settings["services"]["rules"] |= {
        "limits": ["4/day"],
        "routes": [
            {"path": "/api/rules/costly", "limits": ["2/day"]},
            {"path": "/api/rules/cheap", "methods": ["GET"]},
        ],
    }
    settings["services"]["livestreams"]["limits"] = ["2/hour", "10/day"]
    return settings


@pytest.fixture(scope="module")
def gateway(
    start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream, server: RedisServer
) -> GatewayProcess:
    return start_gateway(settings_for(module_upstream.url), workers=2, environ={"REDIS_URL": server.url})


class ConnectionFrom(Connection):
    """A connection from another address of this machine."""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20, (address, 0))


def call_from(
    gateway: GatewayProcess, address: str, target: str = "/api/devices", *fields: tuple[str, str], method: str = "GET"
) -> Reply:
    with ConnectionFrom(address, gateway.port) as connection:
        connection.send(request_bytes(method, target, fields))
        return connection.reply(method)


def call_as(gateway: GatewayProcess, subject: str, target: str = "/api/devices", method: str = "GET") -> Reply:
    return gateway.request(method, target, [bearer(subject)])


def statuses(replies: list[Reply]) -> list[int]:
    return [reply.status for reply in replies]


def quota_fields(reply: Reply) -> dict[str, list[str]]:
    return {name: values for name in QUOTA_FIELDS if (values := reply.values(name))}


@while_redis_answers
def test_a_limit_is_exact_under_fifty_clients_and_two_workers(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    subject = fresh_subject()
    data = request_bytes("GET", "/api/devices", [bearer(subject)])

    def three_requests(_: int) -> list[Reply]:
        replies = []
        for _ in range(3):
            with Connection(gateway.port) as connection:
                connection.send(data)
                replies.append(connection.reply())
        return replies

    with ThreadPoolExecutor(50) as pool:
        replies = [reply for some in pool.map(three_requests, range(50)) for reply in some]
    assert Counter(statuses(replies)) == {200: DEFAULT, 429: 150 - DEFAULT}
    assert len(upstream.requests) == DEFAULT
    # No two responses have the same number of remaining requests.
    remaining = [int(reply.value("X-RateLimit-Remaining") or "") for reply in replies if reply.status == 200]
    assert sorted(remaining) == list(range(DEFAULT))
    assert len(gateway.worker_pids()) == 2


@while_redis_answers
def test_a_429_is_a_problem_document_with_retry_after(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    subject = fresh_subject()
    assert statuses([call_as(gateway, subject, "/api/rules") for _ in range(4)]) == [200] * 4
    reply = call_as(gateway, subject, "/api/rules")
    assert reply.status == 429
    assert reply.reason == "Too Many Requests"
    assert reply.value("Content-Type") == "application/problem+json"
    assert reply.value("Content-Length") == str(len(reply.body))
    assert reply.value("Cache-Control") == "no-store"
    assert reply.value("X-Gateway-Error") == "quota_exceeded"
    assert reply.json() == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "The rate limit is exceeded",
        "status": 429,
        "detail": "try again when Retry-After has passed",
        "instance": reply.value("X-Request-Id"),
        "violated-policies": ["rules"],
    }
    wait = int(reply.value("Retry-After") or "")
    assert 1 <= wait <= 2 * 86400
    assert reply.value("X-RateLimit-Limit") == "4"
    assert reply.value("X-RateLimit-Remaining") == "0"
    reset = int(reply.value("X-RateLimit-Reset") or "")
    # The first of the four requests leaves the window (`wait`) long before the last one does (`reset`).
    assert wait < reset <= 2 * 86400
    assert reply.value("RateLimit-Policy") == '"rules";q=4;w=86400'
    assert reply.value("RateLimit") == f'"rules";r=0;t={reset}'
    assert len(upstream.requests) == 4


@while_redis_answers
def test_a_429_for_head_has_the_headers_and_no_body(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(b"HTTP/1.1 204 No Content\r\n\r\n")
    subject = fresh_subject()
    for _ in range(4):
        call_as(gateway, subject, "/api/rules")
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("HEAD", "/api/rules", [bearer(subject), ("Connection", "close")]))
        head, _, rest = connection.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nRetry-After: " in head
    assert b"\r\nX-RateLimit-Remaining: 0" in head
    assert rest == b""


@while_redis_answers
def test_every_limited_response_has_rate_limit_headers(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    subject = fresh_subject()
    for number in range(1, 4):
        reply = call_as(gateway, subject)
        assert (reply.status, reply.value("X-RateLimit-Limit")) == (200, str(DEFAULT))
        assert reply.value("X-RateLimit-Remaining") == str(DEFAULT - number)
        reset = int(reply.value("X-RateLimit-Reset") or "")
        assert 86400 < reset <= 2 * 86400
        assert reply.value("RateLimit-Policy") == f'"default";q={DEFAULT};w=86400'
        assert reply.value("RateLimit") == f'"default";r={DEFAULT - number};t={reset}'
        assert reply.value("Retry-After") is None
    upstream.answers(b"", keep=False)
    broken = call_as(gateway, subject)
    assert (broken.status, broken.value("X-RateLimit-Remaining")) == (502, str(DEFAULT - 4))


@while_redis_answers
def test_each_principal_has_its_own_counters(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    ada, bob = fresh_subject(), fresh_subject()
    first = call_from(gateway, fresh_address(), "/api/rules", bearer(ada, jti="1"))
    second = call_from(gateway, fresh_address(), "/api/rules", bearer(ada, jti="2", user_id=7))
    assert [one.value("X-RateLimit-Remaining") for one in (first, second)] == ["3", "2"]
    for _ in range(3):
        call_as(gateway, ada, "/api/rules")
    assert call_as(gateway, ada, "/api/rules").status == 429
    assert call_as(gateway, bob, "/api/rules").value("X-RateLimit-Remaining") == "3"
    assert call_as(gateway, ada.upper(), "/api/rules").value("X-RateLimit-Remaining") == "3"


@while_redis_answers
def test_requests_without_a_token_share_the_anonymous_limit_of_their_address(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    here, there = fresh_address(), fresh_address()
    replies = [call_from(gateway, here, target) for target in ("/api/devices", "/api/rules", "/api/auth/me") * 3]
    assert statuses(replies) == [401] * ANONYMOUS + [429] * (9 - ANONYMOUS)
    assert replies[0].value("RateLimit-Policy") == f'"anonymous";q={ANONYMOUS};w=86400'
    assert [reply.value("X-RateLimit-Remaining") for reply in replies] == ["4", "3", "2", "1", "0", "0", "0", "0", "0"]
    assert replies[-1].json()["violated-policies"] == ["anonymous"]
    assert replies[-1].value("WWW-Authenticate") is None
    assert call_from(gateway, there).status == 401
    # A valid token from the same address has a counter of its own.
    assert call_from(gateway, here, "/api/devices", bearer(fresh_subject())).status == 200
    assert len(upstream.requests) == 1


@while_redis_answers
def test_invalid_tokens_count_for_the_address_and_not_for_their_subject(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    address, victim = fresh_address(), fresh_subject()
    invalid = [
        ("Authorization", f"Bearer {signed(victim, key='another-secret-0123456789abcdef-0123456789')}"),
        bearer(victim, exp=1),
        ("Authorization", "Bearer x.y.z"),
        ("Authorization", "Bearer"),
        ("Authorization", "Basic YTpi"),
        bearer(victim, exp=None),
        ("Authorization", "Bearer " + "x" * 9000),
    ]
    replies = [call_from(gateway, address, "/api/devices", field) for field in invalid]
    assert statuses(replies) == [401] * ANONYMOUS + [429] * (len(invalid) - ANONYMOUS)
    assert call_as(gateway, victim).value("X-RateLimit-Remaining") == str(DEFAULT - 1)


@while_redis_answers
def test_a_client_cannot_choose_its_address(gateway: GatewayProcess) -> None:
    address = fresh_address()
    replies = [
        call_from(
            gateway,
            address,
            "/api/devices",
            ("X-Forwarded-For", f"10.0.0.{number}"),
            ("Forwarded", f"for=10.0.0.{number}"),
            ("X-Real-Ip", f"10.0.0.{number}"),
        )
        for number in range(ANONYMOUS + 2)
    ]
    assert statuses(replies) == [401] * ANONYMOUS + [429] * 2


@while_redis_answers
def test_a_routes_limit_replaces_the_default(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    here = fresh_address()
    spellings = ["/api/auth/login", "/api/auth/login/", "/api/auth/%6cogin", "/api/auth/login?again", "/api/auth/login"]
    replies = [call_from(gateway, here, target, method="POST") for target in spellings]
    assert statuses(replies) == [200, 200, 200, 429, 429]
    assert replies[0].value("RateLimit-Policy") == '"auth.login_post";q=3;w=60'
    assert replies[3].json()["violated-policies"] == ["auth.login_post"]
    assert 1 <= int(replies[3].value("Retry-After") or "") <= 120
    assert call_from(gateway, fresh_address(), "/api/auth/login", method="POST").status == 200
    # The anonymous limit was not charged. GET is another route than POST, so its counter has not been used.
    other = call_from(gateway, here, "/api/auth/login")
    assert (other.status, other.value("X-RateLimit-Remaining")) == (401, str(ANONYMOUS - 1))


@while_redis_answers
def test_on_a_public_route_a_valid_token_is_counted_for_its_principal(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    here, subject = fresh_address(), fresh_subject()
    for _ in range(3):
        assert call_from(gateway, here, "/api/auth/login", method="POST").status == 200
    reply = call_from(gateway, here, "/api/auth/login", bearer(subject), method="POST")
    assert (reply.status, reply.value("X-RateLimit-Remaining")) == (200, "2")
    # On a public route an invalid token counts as no token.
    assert call_from(gateway, here, "/api/auth/login", bearer(subject, exp=1), method="POST").status == 429


@while_redis_answers
def test_count_by_address_ignores_the_token(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    here, subject = fresh_address(), fresh_subject()
    register = "/api/auth/register"
    replies = [call_from(gateway, here, register, bearer(fresh_subject()), method="POST") for _ in range(ANONYMOUS)]
    assert [reply.value("X-RateLimit-Remaining") for reply in replies] == ["4", "3", "2", "1", "0"]
    assert replies[0].value("RateLimit-Policy") == f'"anonymous";q={ANONYMOUS};w=86400'
    assert call_from(gateway, here, register, bearer(subject), method="POST").status == 429
    assert call_from(gateway, here, register, method="POST").status == 429
    # Only the counter of this address was charged, not those of another address and of the principal.
    assert call_from(gateway, fresh_address(), register, bearer(subject), method="POST").status == 200
    assert call_as(gateway, subject).value("X-RateLimit-Remaining") == str(DEFAULT - 1)


@while_redis_answers
def test_a_public_route_without_limits_has_the_default_limits(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    here, subject = fresh_address(), fresh_subject()
    anonymous = call_from(gateway, here, "/api/auth/refresh", method="POST")
    assert anonymous.value("RateLimit-Policy") == f'"anonymous";q={ANONYMOUS};w=86400'
    known = call_from(gateway, here, "/api/auth/refresh", bearer(subject), method="POST")
    assert known.value("RateLimit-Policy") == f'"default";q={DEFAULT};w=86400'
    assert call_as(gateway, subject).value("X-RateLimit-Remaining") == str(DEFAULT - 2)


@while_redis_answers
def test_a_services_limit_replaces_the_default_without_charging_it(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    subject = fresh_subject()
    targets = ["/api/rules", "/api/rules/", "/api/rules/1", "/api/rules/1/2", "/api/rules/3"]
    assert statuses([call_as(gateway, subject, target) for target in targets]) == [200] * 4 + [429]
    assert call_as(gateway, subject, "/api/devices").value("X-RateLimit-Remaining") == str(DEFAULT - 1)


@while_redis_answers
def test_a_routes_limit_replaces_its_services_limit_without_charging_it(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    subject = fresh_subject()
    replies = [call_as(gateway, subject, "/api/rules/costly") for _ in range(3)]
    assert statuses(replies) == [200, 200, 429]
    assert replies[2].json()["violated-policies"] == ["rules.costly"]
    assert call_as(gateway, subject, "/api/rules/other").value("X-RateLimit-Remaining") == "3"


@while_redis_answers
def test_services_without_limits_share_the_default(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    subject = fresh_subject()
    remaining = [
        call_as(gateway, subject, target, method).value("X-RateLimit-Remaining")
        for target, method in [("/api/devices", "GET"), ("/api/auth/me", "GET"), ("/api/devices/1", "DELETE")]
    ]
    assert remaining == [str(DEFAULT - 1), str(DEFAULT - 2), str(DEFAULT - 3)]


@while_redis_answers
def test_of_several_windows_all_are_charged_or_none(
    gateway: GatewayProcess, upstream: ScriptedUpstream, server: RedisServer
) -> None:
    server.ask("FLUSHALL")
    subject = fresh_subject()
    replies = [call_as(gateway, subject, "/api/livestreams") for _ in range(6)]
    assert statuses(replies) == [200] * 2 + [429] * 4
    policies = '"livestreams-3600";q=2;w=3600, "livestreams-86400";q=10;w=86400'
    assert {reply.value("RateLimit-Policy") for reply in replies} == {policies}
    # The headers describe the limit with the smallest remaining share.
    assert [(one.value("X-RateLimit-Limit"), one.value("X-RateLimit-Remaining")) for one in replies[:3]] == [
        ("2", "1"),
        ("2", "0"),
        ("2", "0"),
    ]
    assert (replies[5].value("RateLimit") or "").startswith('"livestreams-3600";r=0;t=')
    assert replies[5].json()["violated-policies"] == ["livestreams-3600"]
    with server.client() as client:
        counts = sorted(client.get(key) for key in client.keys(PREFIX + "*"))
    assert [count.rpartition(b":")[2] for count in counts] == [b"2", b"2"]


@while_redis_answers
def test_a_request_is_one_round_trip_whatever_its_limits(
    gateway: GatewayProcess, upstream: ScriptedUpstream, server: RedisServer
) -> None:
    subject = fresh_subject()
    call_as(gateway, subject)
    with server.client() as client:
        client.config_resetstat()
        for target in ("/api/devices", "/api/livestreams", "/api/livestreams", "/api/livestreams", "/api/rules"):
            call_as(gateway, subject, target)
        assert calls_of(client, ["evalsha", "eval", "ping"]) == {"evalsha": 5, "eval": 0, "ping": 0}


@while_redis_answers
def test_redis_keys_contain_no_subject_and_expire(
    gateway: GatewayProcess, upstream: ScriptedUpstream, server: RedisServer
) -> None:
    server.ask("FLUSHALL")
    subject = fresh_subject()
    for target in ("/api/devices", "/api/livestreams", "/api/rules/costly"):
        call_as(gateway, subject, target)
    call_from(gateway, fresh_address())
    with server.client() as client:
        # Excludes the workers' status reports, whose keys come and go.
        keys = [key for key in client.scan_iter() if not key.startswith(b"gateway:status:")]
        assert len(keys) == 5
        assert all(re.fullmatch(rb"gateway:quota:[0-9a-f]{32}", key) for key in keys if isinstance(key, bytes))
        assert all(0 < client.ttl(key) <= 2 * 86400 for key in keys)


COLLIDING = [
    "a/b",
    "a%2Fb",
    "a%252Fb",
    "a",
    "b",
    "A",
    "a b",
    "a+b",
    "a%20b",
    "a\\b",
    "a:b",
    "*",
    "%",
    "/",
    "//",
    "..",
    "a\n",
    "a\x00",
    "\x00",
    "caf\u00e9",
    "cafe\u0301",
    "\uff41",
    "\U0001f600",
    "\ud83d\u200b",
    "user:a",
    "address:127.0.0.1",
    "127.0.0.1",
    f"a/default/{DEFAULT}/1/day",
    f"user:a/default/{DEFAULT}/1/day",
    f"LIMITER/user:a/default/{DEFAULT}/1/day",
    "x" * 1500,
    "x" * 1501,
    "None",
    "0",
]


@while_redis_answers
def test_no_subject_can_share_the_counter_of_another(
    gateway: GatewayProcess, upstream: ScriptedUpstream, server: RedisServer
) -> None:
    server.ask("FLUSHALL")
    for number in (1, 2):
        remaining = {subject: call_as(gateway, subject).value("X-RateLimit-Remaining") for subject in COLLIDING}
        assert remaining == dict.fromkeys(COLLIDING, str(DEFAULT - number))


@while_redis_answers
def test_preflights_health_and_unknown_paths_cost_nothing(
    gateway: GatewayProcess, upstream: ScriptedUpstream, server: RedisServer
) -> None:
    address = fresh_address()
    preflight = [("Origin", ORIGIN), ("Access-Control-Request-Method", "POST")]
    with server.client() as client:
        client.config_resetstat()
        free = [call_from(gateway, address, "/api/devices", *preflight, method="OPTIONS") for _ in range(10)]
        free += [call_from(gateway, address, target) for target in ("/healthz", "/nowhere", "/api/devices/../x") * 5]
        free += [call_from(gateway, address, "/api/devices", method="TRACE")]
        assert Counter(statuses(free)) == {204: 10, 200: 5, 404: 5, 400: 5, 405: 1}
        assert all(quota_fields(reply) == {} for reply in free)
        assert calls_of(client, ["evalsha", "eval"]) == {"evalsha": 0, "eval": 0}
    assert call_from(gateway, address).value("X-RateLimit-Remaining") == str(ANONYMOUS - 1)
    # A request that only resembles a preflight is charged.
    for fields in ([preflight[0]], [preflight[1]], []):
        assert call_from(gateway, address, "/api/devices", *fields, method="OPTIONS").status == 401
    assert call_from(gateway, address).value("X-RateLimit-Remaining") == str(ANONYMOUS - 5)


@while_redis_answers
def test_rate_limit_headers_of_the_upstream_are_replaced(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(
        b"HTTP/1.1 200 OK\r\nx-ratelimit-limit: 1\r\nX-RateLimit-Limit: 2\r\nX-Ratelimit-Remaining: 0\r\n"
        b'X-RateLimit-Reset: 9\r\nRateLimit: "theirs";r=1\r\nRATELIMIT-POLICY: "theirs";q=1\r\n'
        b"Content-Length: 0\r\n\r\n"
    )
    fields = quota_fields(call_as(gateway, fresh_subject()))
    assert {name: len(values) for name, values in fields.items()} == dict.fromkeys(QUOTA_FIELDS, 1)
    assert fields["X-RateLimit-Limit"] == [str(DEFAULT)]
    assert "theirs" not in str(fields)


@while_redis_answers
def test_a_429_of_the_upstream_is_forwarded(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(b"HTTP/1.1 429 Slow Down\r\nRetry-After: 1.5\r\nContent-Length: 4\r\n\r\nslow")
    reply = call_as(gateway, fresh_subject())
    assert (reply.status, reply.reason, reply.body) == (429, "Slow Down", b"slow")
    assert reply.value("Retry-After") == "1.5"
    assert reply.value("X-Gateway-Error") is None
    assert reply.value("X-RateLimit-Remaining") == str(DEFAULT - 1)


def test_limits_can_be_switched_off(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream, server: RedisServer
) -> None:
    settings = settings_for(upstream.url)
    settings["ratelimit"]["enabled"] = False
    off = start_gateway(settings, workers=1, environ={"REDIS_URL": server.url})
    upstream.answers(b"HTTP/1.1 200 OK\r\nX-RateLimit-Limit: 7\r\nContent-Length: 0\r\n\r\n")
    with server.client() as client:
        client.config_resetstat()
        replies = [off.request("POST", "/api/auth/login") for _ in range(10)]
        assert statuses(replies) == [200] * 10
        assert {str(quota_fields(reply)) for reply in replies} == {"{'X-RateLimit-Limit': ['7']}"}
        assert statuses([off.get("/api/devices") for _ in range(10)]) == [401] * 10
        assert calls_of(client, ["evalsha", "eval"]) == {"evalsha": 0, "eval": 0}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", "unknown"),
        ("/run/client.sock", "/run/client.sock"),
        ("192.0.2.7:80", "192.0.2.7:80"),
    ],
)
def test_an_ipv6_customer_is_one_caller(address: str, expected: str) -> None:
    assert rate_limit_address(address) == expected


@while_redis_answers
def test_a_route_without_limits_of_its_own_shares_its_services(gateway: GatewayProcess) -> None:
    subject = fresh_subject()
    targets = ["/api/rules/cheap", "/api/rules", "/api/rules/cheap", "/api/rules/1", "/api/rules/cheap"]
    assert statuses([call_as(gateway, subject, target) for target in targets]) == [200, 200, 200, 200, 429]
