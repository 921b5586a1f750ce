"""Settings of the server process: listening, clients' connections, proxies in front, log, traces, operators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from gateway.config.base import Model
from gateway.config.field_types import (
    Bind,
    Bytes,
    Collector,
    HeaderName,
    HeaderValue,
    HostPattern,
    Network,
    NewFile,
    Ratio,
    Seconds,
    Text,
    WorkerKind,
)
from gateway.system.cpus import usable_cpus


class ServerSettings(Model):
    """The server: where it listens, how many workers it has, and what clients may do to their connections."""

    bind: Bind = "127.0.0.1:8000"
    """Addresses to listen on, for example `["0.0.0.0:8000", "unix:/run/gateway.sock"]`; `[::]:8000` includes IPv4. The
    variable PORT sets `0.0.0.0:PORT`."""
    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    """Number of worker processes; the variable WEB_CONCURRENCY sets it, too. Default: one per processor that the cgroup
    allows, and at least two."""
    worker: WorkerKind = "gevent"
    """The only kind of worker."""
    allowed_hosts: tuple[HostPattern, ...] = ()
    """Hosts that are served, for example `api.example.com` or `*.example.com:8443`; requests for others are answered
    with 421. Empty: all hosts."""
    connections_per_worker: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """Maximum number of client connections per worker; beyond it, those that have waited longest without a request are
    closed."""
    connections_per_client: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Maximum number of connections per client address and worker; 0: no limit."""
    client_timeout_seconds: Seconds = 30
    """Longest wait for the next part of a request's body, and for the client to accept the next part of a response."""
    body_timeout_seconds: Annotated[float, Field(ge=0, le=86400)] = 3600
    """Time limit for a whole body; 0: none."""
    min_body_bytes_per_second: Annotated[Bytes, Field(ge=0, le=1_000_000_000)] = 128
    """Slowest rate at which a body may arrive, after its first 5 seconds; 0: any rate."""
    keepalive_seconds: Annotated[int, Field(ge=1, le=600)] = 15
    """Time limit for a request's whole header, and for the next request on a connection."""
    max_head_bytes: Annotated[Bytes, Field(ge=8192, le=1024 * 1024)] = 64 * 1024
    """Largest request line and header together; larger ones are answered with 431. The request line alone may have 8190
    bytes, a single header 16380."""
    graceful_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """Time that requests in flight have to end after TERM or a reload; then their connections are cut."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 0
    """Part of `graceful_timeout_seconds` in which the gateway still serves and ends streams, while `/readyz` answers
    503 to the load balancer."""
    max_worker_memory_mib: Annotated[int, Field(ge=64, le=1_000_000)] | None = None
    """Memory over which a worker finishes its requests and is replaced. Default: no limit."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that the server listens on, at least one."""
        return (self.bind,) if isinstance(self.bind, str) else self.bind

    @property
    def worker_count(self) -> int:
        """The setting `workers`; by default one worker per usable CPU, but at least two, so that requests are served
        while a worker that died is replaced."""
        return self.workers or max(2, usable_cpus())

    def conflicts(self) -> Iterator[str]:
        if self.drain_seconds and self.drain_seconds >= self.graceful_timeout_seconds:
            yield "drain_seconds must be less than graceful_timeout_seconds, which it is a part of"
        if (most := self.connections_per_worker) < self.connections_per_client:
            yield f"connections_per_client: is over connections_per_worker ({most})"


class ProxySettings(Model):
    """Proxies in front of the gateway, and how they describe the client."""

    trusted_hops: Annotated[int, Field(ge=0, le=10)] = 0
    """Number of proxies that are trusted about the client's address, scheme and host. A number that is too high
    lets clients forge their address."""
    forwarding_fields: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    """Headers that the proxies write: `X-Forwarded-For`, `-Proto` and `-Host`, or `Forwarded` (RFC 7239)."""


class AdminSettings(Model):
    """Who may read `/metrics` and `/status`."""

    allow: tuple[Network, ...] = ("127.0.0.0/8", "::1")
    """Client addresses and networks; all others get 404."""


class LogSettings(Model):
    """The access log: a line for each request."""

    file: NewFile | None = None
    """File that lines are appended to. Default: standard output."""
    format: Literal["auto", "json", "text"] = "auto"
    """Format of a line; `auto` writes text to a terminal, and JSON elsewhere."""
    sample_successes: Ratio = 1
    """Share of the requests with a status below 400 that is logged; all others always are."""
    query: bool = False
    """Log the query, which may contain secrets; otherwise only that there was one."""
    principal: Literal["subject", "hash", "none"] = "subject"
    """How the caller is logged: the `sub` of the token, a hash of it, or not at all."""


class TracingSettings(Model):
    """Traces (W3C Trace Context), and their export by OpenTelemetry."""

    propagate: bool = True
    """Continue or start traces: `traceparent` and `tracestate`. Without it, both fields are forwarded unchanged."""
    sample_ratio: Ratio = 1
    """Share of the traces started here that is sampled; traces that a client started keep their flag."""
    otlp_endpoint: Collector | None = None
    """Base URL of a collector, for example `http://127.0.0.1:4318`; spans are sent to its `/v1/traces`. Default: none
    are sent."""
    headers: dict[HeaderName, HeaderValue] = Field(default={})
    """Headers for the collector, for example `{ authorization = "Bearer …" }`."""
    service_name: Text = "gateway"
    """`service.name` of the spans."""

    def conflicts(self) -> Iterator[str]:
        if self.otlp_endpoint is not None and not self.propagate:
            yield "otlp_endpoint: needs propagate = true"
        if self.headers and self.otlp_endpoint is None:
            yield "headers: needs otlp_endpoint"
