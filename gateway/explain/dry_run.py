"""Runs one request through the gateway's own stages, with components that count nothing and send nothing."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

from flask import Flask, request
from flask_limiter import Limiter

from gateway import context
from gateway.api_documents.refresher import DocumentRefresher
from gateway.config import Settings
from gateway.context import Exchange
from gateway.dependencies import Dependencies
from gateway.errors import AmbiguousPath
from gateway.explain.dry_run_parts import (
    DryRunForwarder,
    DryRunLimiter,
    DryRunRefresher,
    NoHealthChecks,
    UpstreamRequest,
    WouldForward,
)
from gateway.http_fields import HeaderPairs
from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.responses import GatewayResponse
from gateway.routes.admin import OperatorsOnly
from gateway.stages.authentication import Authentication
from gateway.stages.cors import answer_preflight
from gateway.stages.host_check import ServedHosts
from gateway.stages.operation_check import OperationCheck
from gateway.stages.path_check import PathCheck
from gateway.stages.start import RequestStart
from gateway.tokens.issuer import Issuer
from gateway.tokens.issuer_factory import make_issuers
from gateway.tokens.principal import Principal
from gateway.tokens.remote_jwks import FIRST_LOAD_SECONDS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

BuildApp: TypeAlias = Callable[[Settings, Dependencies], Flask]

READY = "gateway.readyz"
# The stage of each hook. A hook of an extension is named by its own function.
STAGES: dict[Callable[..., Any], str] = {
    RequestStart.begin: "client",
    answer_preflight: "preflight",
    PathCheck.check: "path",
    Authentication.authenticate: "token",
    Authentication.authorize: "authorization",
    OperationCheck.check: "document",
    OperatorsOnly.check: "operators",
    ServedHosts.check: "host",
    ServedHosts.check_operators: "host",
}


@dataclass
class DryRunResult:
    """The response and the stages that led to it."""

    exchange: Exchange
    status: int
    # Of the gateway's own response; if the request would be forwarded, those that it would add to the service's.
    response_headers: HeaderPairs
    problem: dict[str, Any] | None
    begun_stages: list[str]
    # The stage that responded or refused; "" if none did.
    stopped_at: str
    # Whom the token identifies, even if the token turned out to be revoked.
    principal: Principal | None
    # The path that some servers could read, and that has another policy; None unless the path check refused it.
    other_path: str | None
    upstream_requests: list[UpstreamRequest]
    would_forward: bool
    redis_state: str
    has_document: bool
    keys_loaded: dict[str, bool]
    log_lines: list[str]


@dataclass
class DryRun:
    """A gateway for one simulated request. `build_app` makes the application. Raises ConfigurationError."""

    settings: Settings
    build_app: BuildApp
    _begun_stages: list[str] = field(default_factory=list)
    _passed_stages: set[str] = field(default_factory=set)
    _upstream_requests: list[UpstreamRequest] = field(default_factory=list)
    _principal: Principal | None = None
    _would_forward: bool = False
    _other_path: str | None = None

    def __post_init__(self) -> None:
        dependencies = Dependencies(
            issuers=self._make_issuers,
            rate_limiter=self._make_rate_limiter,
            refresher=self._make_refresher,
            health_checks=NoHealthChecks,
            forwarder=lambda *parts: DryRunForwarder(self._upstream_requests, *parts),
        )
        self.app = self.build_app(self.settings, dependencies)
        for hooks in self.app.before_request_funcs.values():
            hooks[:] = [self._recorded(hook) for hook in hooks]
        self.app.before_request(self._remember_principal)
        self.app.register_error_handler(WouldForward, self._end_before_forwarding)

    def run(self, environ: WSGIEnvironment) -> DryRunResult:
        with collected_log() as log_lines, self.app.request_context(environ):
            if request.endpoint == READY:
                self._wait_for_keys()
            response = self.app.full_dispatch_request()
            exchange = context.current()
            stopped_at = next((stage for stage in self._begun_stages if stage not in self._passed_stages), "")
            if not stopped_at and request.routing_exception is not None:
                stopped_at = "route"
            is_problem = response.content_type == "application/problem+json"
            service = exchange.policy.service if exchange.policy else ""
            return DryRunResult(
                exchange=exchange,
                status=response.status_code,
                response_headers=list(response.headers.items()),
                problem=json.loads(response.get_data()) if is_problem else None,
                begun_stages=self._begun_stages,
                stopped_at=stopped_at,
                principal=self._principal or exchange.principal,
                other_path=self._other_path,
                upstream_requests=self._upstream_requests,
                would_forward=self._would_forward,
                redis_state=self._rate_limiter.state,
                has_document=self._refresher.has(service),
                keys_loaded={issuer.name: issuer.keys.age_seconds is not None for issuer in self._issuers},
                log_lines=log_lines,
            )

    def _make_issuers(self, *parts: Any) -> list[Issuer]:
        self._issuers = make_issuers(*parts)
        return self._issuers

    def _make_rate_limiter(self, *parts: Any) -> FallbackLimiter:
        self._rate_limiter = DryRunLimiter(*parts)
        return self._rate_limiter

    def _make_refresher(self, *parts: Any) -> DocumentRefresher:
        self._refresher = DryRunRefresher(*parts)
        return self._refresher

    def _wait_for_keys(self) -> None:
        """Waits for the issuers' keys: a running worker has had the time to load them."""
        deadline = time.monotonic() + FIRST_LOAD_SECONDS
        while time.monotonic() < deadline:
            # A list, not a generator: reading `is_ready` is what starts the loading, and all issuers have to start.
            if all([issuer.keys.is_ready for issuer in self._issuers]):  # noqa: C419 - see above
                return
            time.sleep(0.02)

    def _remember_principal(self) -> None:
        # The lookup of revocations later removes the principal of a revoked token.
        self._principal = context.current().principal

    def _end_before_forwarding(self, _: WouldForward) -> GatewayResponse:
        self._would_forward = True
        return GatewayResponse(status=200)

    def _recorded(self, hook: Callable[[], Any]) -> Callable[[], Any]:
        """The hook, recorded when it begins and when the request passes it."""
        stage = stage_of(hook)

        @wraps(hook)
        def run() -> Any:
            self._begun_stages.append(stage)
            try:
                response = hook()
            except AmbiguousPath as refused:
                self._other_path = refused.reading
                raise
            if response is None:
                self._passed_stages.add(stage)
            return response

        return run


def stage_of(hook: Callable[..., Any]) -> str:
    if isinstance(getattr(hook, "__self__", None), Limiter):
        return "rate limit"
    function = getattr(hook, "__func__", hook)
    return STAGES.get(function) or function.__qualname__.lstrip("_")


@contextmanager
def collected_log() -> Iterator[list[str]]:
    """Collects the gateway's warnings and errors, which are not logged meanwhile."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("gateway"), Collector(logging.WARNING)
    propagated, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)
        log.propagate = propagated
