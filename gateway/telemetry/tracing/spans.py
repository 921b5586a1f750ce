"""Describes a request as spans, by OpenTelemetry's semantic conventions for HTTP (stable since 1.23). Spans contain no
token, query or subject."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.context import Exchange
from gateway.proxy.forward_request import Attempt
from gateway.telemetry.request_records import RequestRecord

Attributes = dict[str, str | int | bool]
Kind = Literal["server", "internal", "client"]

# Span names must have few different values, so for methods that a client makes up the name has HTTP.
METHODS = frozenset("CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT QUERY TRACE".split())
HOST = re.compile(r"(\[[^\]]*\]|[^:]+)(?::([0-9]{1,5}))?")


@dataclass(slots=True)
class SpanRecord:
    """One span. Times are monotonic seconds. If `span_id` is empty, the exporter chooses a random one."""

    name: str
    kind: Kind
    started: float
    ended: float
    attributes: Attributes
    is_error: bool = False
    span_id: str = ""


def server_span(record: RequestRecord, path: str) -> SpanRecord:
    """Makes the span of the whole request, until the last byte of the response. `path` is the redacted path."""
    exchange, environ = record.exchange, record.exchange.environ
    route = exchange.policy.path if exchange.policy is not None else exchange.url_rule
    attributes = method_attributes(exchange.method)
    attributes["url.path"] = path
    attributes["url.scheme"] = environ["wsgi.url_scheme"]
    attributes["http.response.status_code"] = record.status
    attributes["client.address"] = exchange.client.address
    attributes["network.peer.address"] = exchange.client.peer
    attributes["network.protocol.version"] = environ["SERVER_PROTOCOL"].removeprefix("HTTP/")
    attributes["gateway.request_id"] = exchange.request_id
    if route is not None:
        attributes["http.route"] = route
    if match := HOST.fullmatch(environ.get("HTTP_HOST", "")):
        attributes["server.address"] = match[1].strip("[]")
        if match[2]:
            attributes["server.port"] = int(match[2])
    if exchange.policy is not None:
        attributes["gateway.service"] = exchange.policy.service
    if exchange.error_code:
        attributes["gateway.error"] = exchange.error_code
    # A 4xx, or a client that disconnected, is not an error of a server's span.
    is_error = record.status >= 500 or exchange.error_code == "upstream_aborted"
    if is_error:
        attributes["error.type"] = exchange.error_code or str(record.status)
    name = method_name(exchange.method)
    return SpanRecord(
        name if route is None else f"{name} {route}",
        "server",
        exchange.started,
        record.ended,
        attributes,
        is_error,
    )


def inner_spans(exchange: Exchange, urls: Sequence[str]) -> Iterator[SpanRecord]:
    """Makes spans for the waits within the request: for Redis, and for each attempt at an upstream. `urls` are the
    redacted URLs of the attempts."""
    quota = exchange.limits
    if quota.ended_at:
        attributes: Attributes = {"gateway.quota.passed": quota.passed} if quota.results else {}
        yield SpanRecord("quota", "internal", quota.started_at, quota.ended_at, attributes)
    for number, (attempt, url) in enumerate(zip(exchange.attempts, urls, strict=True)):
        yield attempt_span(exchange, attempt, url, number)


def attempt_span(exchange: Exchange, attempt: Attempt, url: str, number: int) -> SpanRecord:
    attributes = method_attributes(exchange.method)
    attributes |= {"url.full": url, "server.address": attempt.target.host, "server.port": attempt.target.port}
    is_error = attempt.status is None or attempt.status >= 400
    if attempt.status is not None:
        attributes["http.response.status_code"] = attempt.status
    if is_error:
        attributes["error.type"] = attempt.outcome.replace(" ", "_") if attempt.status is None else str(attempt.status)
    if number:
        attributes["http.request.resend_count"] = number
    if exchange.policy is not None:
        attributes["gateway.service"] = exchange.policy.service
    return SpanRecord(
        method_name(exchange.method), "client", attempt.started, attempt.ended, attributes, is_error, attempt.span_id
    )


def method_name(method: str) -> str:
    return method if method in METHODS else "HTTP"


def method_attributes(method: str) -> Attributes:
    if method in METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER", "http.request.method_original": method}
