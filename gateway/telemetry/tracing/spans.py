"""Describes a request as spans, by OpenTelemetry's semantic conventions for HTTP (stable since 1.23). Spans contain no
token, query or subject."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gateway.context import Exchange, ResponseFacts
from gateway.trace_context import Trace, UpstreamCall

Attributes = dict[str, str | int | bool]
Kind = Literal["server", "internal", "client"]

# Span names must have few different values, so methods that a client makes up are all named HTTP.
METHODS = frozenset("CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT QUERY TRACE".split())
HOST = re.compile(r"(\[[^\]]*\]|[^:]+)(?::([0-9]{1,5}))?")


@dataclass(slots=True)
class SpanRecord:
    """One span. Times are monotonic seconds. If `span_id` is empty, the exporter chooses a random id."""

    name: str
    kind: Kind
    started: float
    ended: float
    attributes: Attributes
    is_error: bool = False
    span_id: str = ""


def server_span(exchange: Exchange, served: ResponseFacts, ended: float, path: str) -> SpanRecord:
    """The whole request, until the last byte of the response. `path` is the redacted path."""
    attributes = method_attributes(exchange.method)
    attributes["url.path"] = path
    attributes["url.scheme"] = served.scheme
    attributes["http.response.status_code"] = served.status
    attributes["client.address"] = exchange.client.address
    attributes["network.peer.address"] = exchange.client.peer
    attributes["network.protocol.version"] = served.protocol.removeprefix("HTTP/")
    attributes["gateway.request_id"] = exchange.request_id
    if served.route is not None:
        attributes["http.route"] = served.route
    if match := HOST.fullmatch(served.host):
        attributes["server.address"] = match[1].strip("[]")
        if match[2]:
            attributes["server.port"] = int(match[2])
    if exchange.policy is not None:
        attributes["gateway.service"] = exchange.policy.service
    if exchange.error_code:
        attributes["gateway.error"] = exchange.error_code
    # A 4xx and a client that left are not errors of a server's span.
    is_error = served.status >= 500 or exchange.error_code == "upstream_aborted"
    if is_error:
        attributes["error.type"] = exchange.error_code or str(served.status)
    name = method_name(exchange.method)
    return SpanRecord(
        name if served.route is None else f"{name} {served.route}",
        "server",
        exchange.started,
        ended,
        attributes,
        is_error,
    )


def inner_spans(exchange: Exchange, trace: Trace) -> Iterator[SpanRecord]:
    """The waits within the request: for Redis, and for each attempt at an upstream."""
    quota = exchange.limits
    if quota.ended_at:
        attributes: Attributes = {"gateway.quota.passed": quota.passed} if quota.results else {}
        yield SpanRecord("quota", "internal", quota.started_at, quota.ended_at, attributes)
    for number, call in enumerate(trace.calls):
        yield call_span(exchange, call, number)


def call_span(exchange: Exchange, call: UpstreamCall, number: int) -> SpanRecord:
    attributes = method_attributes(exchange.method)
    attributes |= {"url.full": call.url, "server.address": call.host, "server.port": call.port}
    is_error = call.status is None or call.status >= 400
    if call.status is not None:
        attributes["http.response.status_code"] = call.status
    if is_error:
        attributes["error.type"] = call.outcome.replace(" ", "_") if call.status is None else str(call.status)
    if number:
        attributes["http.request.resend_count"] = number
    if exchange.policy is not None:
        attributes["gateway.service"] = exchange.policy.service
    return SpanRecord(
        method_name(exchange.method), "client", call.started, call.ended, attributes, is_error, call.span_id
    )


def method_name(method: str) -> str:
    return method if method in METHODS else "HTTP"


def method_attributes(method: str) -> Attributes:
    if method in METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER", "http.request.method_original": method}
