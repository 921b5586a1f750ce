"""An application can limit its own views with Flask-Limiter's decorators; the gateway's own limits still apply."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from flask import Blueprint, Flask, request
from flask_limiter import Limiter
from werkzeug.serving import make_server

from gateway import create_app
from tests.support.client import Reply, exchange, request_bytes
from tests.support.configuration import loaded
from tests.support.redis import RedisServer
from tests.support.tokens import SECRET, bearer


def extended(url: str) -> Flask:
    """The gateway's Flask app with additional views, which an operator can add in an own wsgi.py. Decorators of
    Flask-Limiter limit these views."""
    app = create_app(loaded({"redis_url": url, "redis_timeout_seconds": 5, "jwt": {"secret": SECRET}}))
    (limiter,) = app.extensions["limiter"]
    assert isinstance(limiter, Limiter)
    shared = limiter.shared_limit("3/day", scope="shared")

    @app.get("/decorated")
    @limiter.limit("2/day")
    def decorated() -> str:
        return "ok"

    @app.get("/first")
    @shared
    def first() -> str:
        return "ok"

    @app.get("/second")
    @shared
    def second() -> str:
        return "ok"

    @app.get("/callable")
    @limiter.limit(lambda: request.args["limit"], key_func=lambda: request.args["key"])
    def by_callable() -> str:
        return "ok"

    @app.get("/costly")
    @limiter.limit("5/day", cost=lambda: int(request.args["cost"]))
    def costly() -> str:
        return "ok"

    @app.get("/spared")
    @limiter.limit("1/day", exempt_when=lambda: "spare" in request.args)
    def spared() -> str:
        return "ok"

    @app.get("/exempt")
    @limiter.exempt
    def exempt() -> str:
        return "ok"

    blueprint = Blueprint("own", __name__, url_prefix="/own")
    blueprint.add_url_rule("/view", "view", lambda: "ok")
    limiter.limit("2/day")(blueprint)
    app.register_blueprint(blueprint)
    return app


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with RedisServer() as redis:
        server = make_server("127.0.0.1", 0, extended(redis.url), threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def get(port: int, target: str, subject: str = "ada") -> Reply:
    return exchange(port, request_bytes("GET", target, [bearer(subject), ("Connection", "close")]))


def passed(port: int, *targets: str) -> list[bool]:
    replies = [get(port, target) for target in targets]
    assert all(reply.status in (200, 429) for reply in replies), [reply.body for reply in replies]
    return [reply.status == 200 for reply in replies]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["/decorated"] * 3, [True, True, False]),
        (["/first", "/second", "/first", "/second", "/first"], [True, True, True, False, False]),
        (["/callable?limit=1/day&key=a"] * 2 + ["/callable?limit=1/day&key=b"], [True, False, True]),
        (["/costly?cost=3", "/costly?cost=3", "/costly?cost=2"], [True, False, True]),
        (["/spared?spare", "/spared?spare", "/spared", "/spared"], [True, True, True, False]),
        (["/exempt"] * 5, [True] * 5),
        (["/own/view"] * 3, [True, True, False]),
    ],
)
def test_limits_of_the_application(port: int, targets: list[str], expected: list[bool]) -> None:
    assert passed(port, *targets) == expected


def test_the_application_refuses_with_a_problem_document(port: int) -> None:
    for _ in range(3):
        reply = get(port, "/decorated", "bob")
    assert (reply.status, reply.value("X-Gateway-Error")) == (429, "quota_exceeded")
    assert int(reply.value("Retry-After") or "0") >= 1
    assert reply.json()["violated-policies"] == ["2 per 1 day"]
    assert reply.value("X-RateLimit-Limit") == "2"
