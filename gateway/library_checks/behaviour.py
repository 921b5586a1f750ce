"""Checks that call libraries as the gateway does, without network access and without leaving files behind.

Each function raises an exception whose text says what has changed."""

from __future__ import annotations

import _socket
import base64
import hmac
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

import gevent.socket
import jwt
from flask import Flask
from gunicorn import http
from gunicorn.config import Config
from gunicorn.workers import base_async
from redis.exceptions import ReadOnlyError

from gateway.config import RateLimitSettings
from gateway.errors import LibraryMismatch
from gateway.gunicorn.parser_settings import PARSER_SETTINGS
from gateway.gunicorn.request_heads import Request, RequestParser
from gateway.rate_limiting.flask_limiter_backend import SCHEME, STRATEGY
from gateway.rate_limiting.limit_sets import LimitSets
from gateway.redis.connection_classes import TimedConnection
from gateway.responses import GatewayResponse, put_fields
from gateway.stages.rate_limit import GatewayLimiter, RequestLimits
from gateway.tokens.signature import CompactJWT

PEER = ("127.0.0.1", 1)
# In this order: a plain head, a head that gunicorn's parser parses, and a head that gunicorn accepts but the gateway
# refuses.
REQUESTS = (
    b"GET /plain HTTP/1.1\r\nHost: gateway\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"GET /no-host HTTP/1.1\r\n\r\n",
)
EXPIRED = 1.0


def require(condition: object, text: str) -> None:
    if not condition:
        raise LibraryMismatch([text])


def check_request_parser() -> None:
    config = Config()
    for name, value in PARSER_SETTINGS.items():
        config.set(name, value)
    original, http.RequestParser = http.RequestParser, RequestParser
    try:
        parser: Any = base_async.http.get_parser(config, iter(REQUESTS), PEER)
    finally:
        http.RequestParser = original
    require(type(parser) is RequestParser, "its workers do not use gunicorn.http.RequestParser")
    plain, other = next(parser), None
    require(isinstance(plain, Request) and not plain._expected_100_continue, "requests are parsed by another class")
    other = next(parser)
    require(isinstance(other, Request) and other._expected_100_continue, "Expect is not recorded in a request")
    require(other.body.read() == b"a", "a chunked body can't be read")
    with suppress(http.errors.ParseException):
        next(parser)
        raise LibraryMismatch(["heads are not checked by the overridden methods"])


def check_sockets() -> None:
    for name in ("_sock", "_read_event", "_wait"):
        require(hasattr(gevent.socket.socket, name), f"gevent.socket.socket has no {name}")
    with gevent.socket.socket() as sock:
        require(isinstance(sock._sock, _socket.socket), "gevent.socket.socket._sock is not the system's socket")


def check_responses() -> None:
    closed: list[bool] = []
    response = GatewayResponse.of([b"x"], 299, "Odd", [("A", "1"), ("A", "2"), ("B", "3")])
    require((response.status, response.status_code) == ("299 Odd", 299), "a response's status is set differently")
    put_fields(response.headers, [("C", "4")], frozenset(["a"]))
    found = response.headers.to_wsgi_list()
    require(found == list(response.headers) == [("B", "3"), ("C", "4")], "Headers stores its fields differently")
    response.call_on_close(lambda: closed.append(True))
    response.close()
    require(closed, "call_on_close does not work")


class CountedLimits(RequestLimits):
    """Yields no limits, and counts how often it is read."""

    read_count = 0

    def __iter__(self) -> Iterator[Any]:
        self.read_count += 1
        return iter(())


def check_limiter() -> None:
    """Checks that Flask-Limiter calls the method that the gateway overrides, and that this method detects limits that
    an application has added."""
    settings = RateLimitSettings()
    own, app = CountedLimits(settings, LimitSets(settings, [])), Flask("library-checks")
    # Uses the gateway's own storage: the storages of the package `limits` would start a thread.
    options = {"rate_limiter": None, "state": None}
    limiter = GatewayLimiter(own, storage_uri=f"{SCHEME}://", storage_options=options, strategy=STRATEGY)
    own.bind(limiter)
    limiter.init_app(app)
    with app.test_request_context("/"):
        app.preprocess_request()
    require(own.read_count == 1, "it does not call _check_request_limit before a request")
    limiter.limit("1/minute")(check_limiter)
    require(not limiter._has_only_own(), "limits of an application are not detected")


def check_tokens() -> None:
    """Checks that claims and signatures are verified, both with a JOSE header that is new and with one that is cached.
    Times are not checked here: `verified_claims` leaves them to its caller."""
    secret = bytes(range(32))
    key = jwt.PyJWK({"kty": "oct", "k": base64.urlsafe_b64encode(secret).decode().rstrip("=")}, "HS256")
    tokens = CompactJWT({"require": ["exp", "sub"], "enforce_minimum_key_length": True})
    good = {"sub": "a", "exp": EXPIRED, "iss": "i", "aud": "b"}
    bad = [{**good, "aud": "x"}, {**good, "iss": "x"}, {"exp": EXPIRED, "iss": "i", "aud": "b"}, {**good, "jti": 1}]
    for state in ("new", "cached"):
        for claims in bad:
            require(refuses(tokens, key, signed(claims, secret)), f"claims with a {state} header are not checked")
        odd = jwt.PyJWS().encode(jwt_text(good).encode("utf-16"), secret)
        require(
            refuses(tokens, key, signed(good, secret) + "!"), f"a malformed signature with a {state} header is accepted"
        )
        require(refuses(tokens, key, odd), f"the payload with a {state} header is decoded differently")
        for header in (b'{"alg":"HS256","alg":"HS256"}', '{"alg":"HS256"}'.encode("utf-16")):
            twice = sealed(header, jwt_text(good).encode(), secret)
            require(refuses(tokens, key, twice), "headers are decoded differently")
        require(refuses(tokens, key, signed(good, bytes(32))), f"the signature with a {state} header is not verified")
        verified = tokens.verified_claims(signed(good, secret), key, "b", "i")
        require(verified == good, f"claims with a {state} header are decoded differently")


def signed(claims: dict[str, Any], secret: bytes) -> str:
    return jwt.encode(claims, secret, "HS256")


def sealed(header: bytes, payload: bytes, secret: bytes) -> str:
    """A token with any bytes as its header."""
    body = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    seal = hmac.digest(secret, body, "sha256")
    return (body + b"." + base64.urlsafe_b64encode(seal).rstrip(b"=")).decode()


def jwt_text(claims: dict[str, Any]) -> str:
    return "{" + ", ".join(f'"{name}": "{value}"' for name, value in claims.items()) + "}"


def refuses(tokens: CompactJWT, key: jwt.PyJWK, token: str) -> bool:
    try:
        tokens.verified_claims(token, key, "b", "i")
    except jwt.PyJWTError:
        return True
    return False


def check_redis_connection() -> None:
    near, far = socket.socketpair()

    class Connection(TimedConnection):
        def _connect(self) -> socket.socket:
            return near

    # More replies than the connection needs for the commands that it sends when it connects.
    far.sendall(b"+OK\r\n" * 10)
    with near, far:
        connected: Any = Connection
        connection = connected(host="gateway.invalid", socket_timeout=1, socket_connect_timeout=1, protocol=2)
        require(connection._sock is None, "a connection has a socket before it connects")
        connection.connect()
        require(connection._sock is near, "_connect does not make the connections")
        error = connection._parser.parse_error("READONLY no")
        require(isinstance(error, ReadOnlyError), "errors in replies are parsed differently")
        connection.disconnect()
        require(connection._sock is None, "a connection has a socket after disconnect")


def check_metrics_files() -> None:
    """Checks that a worker continues the files of its predecessor, whose names have a number instead of a process
    id."""
    from prometheus_client.mmap_dict import MmapedDict, mmap_key  # noqa: PLC0415 - must not be imported before the folder is there
    from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead  # noqa: PLC0415 - see above
    from prometheus_client.values import MultiProcessValue  # noqa: PLC0415 - see above

    require("process_identifier" in signature(MultiProcessValue).parameters, "its files can't be named by numbers")
    key: Any = mmap_key("checks", "checks_total", [], [], "")
    with tempfile.TemporaryDirectory() as name:
        for value in (1.0, 2.0):
            counters: Any = MmapedDict(f"{name}/counter_0.db")  # type: ignore[no-untyped-call]
            require(counters.read_value(key)[0] == value - 1, "a file does not keep its values")
            counters.write_value(key, value, 0.0)
            counters.close()
        Path(name, "gauge_livesum_0.db").touch()
        mark_process_dead("0", name)  # type: ignore[no-untyped-call]
        require(os.listdir(name) == ["counter_0.db"], "the gauges of an ended worker are not removed")
        (family,) = MultiProcessCollector(None, name).collect()  # type: ignore[no-untyped-call]
        require([sample.value for sample in family.samples] == [2], "files of metrics are added up in another way")
