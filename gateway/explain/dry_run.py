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
# The names of the stages by the hook that runs them. Other hooks are named after their function.
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
    """The response and the stages that led to it; recorded while the stages run."""

    exchange: Exchange = field(init=False)
    status: int = 0
    # The headers of the gateway's own response. If the request would be forwarded: the headers that the gateway would
    # add to the service's response.
    response_headers: HeaderPairs = field(default_factory=list)
    problem: dict[str, Any] | None = None
    begun_stages: list[str] = field(default_factory=list)
    passed_stages: set[str] = field(default_factory=set)
    # The stage that responded or refused; "" if none did.
    stopped_at: str = ""
    # The caller that the token identifies, even if the token is revoked.
    principal: Principal | None = None
    # The path that some servers could read in the request, and that has another policy. Set if the path check refused
    # the request for this reason, else None.
    other_path: str | None = None
    upstream_requests: list[UpstreamRequest] = field(default_factory=list)
    would_forward: bool = False
    redis_state: str = ""
    has_document: bool = False
    keys_loaded: dict[str, bool] = field(default_factory=dict)
    log_lines: list[str] = field(default_factory=list)


class DryRun:
    """A gateway for one simulated request. `build_app` makes the application. Raises ConfigurationError."""

    def __init__(self, settings: Settings, build_app: BuildApp) -> None:
        self._result = DryRunResult()
        dependencies = Dependencies(
            issuers=self._make_issuers,
            rate_limiter=self._make_rate_limiter,
            refresher=self._make_refresher,
            forwarder=lambda *parts: DryRunForwarder(self._result.upstream_requests, *parts),
        )
        self._app = build_app(settings, dependencies)
        for hooks in self._app.before_request_funcs.values():
            hooks[:] = [self._recorded(hook) for hook in hooks]
        self._app.before_request(self._remember_principal)
        self._app.register_error_handler(WouldForward, self._end_before_forwarding)

    def run(self, environ: WSGIEnvironment) -> DryRunResult:
        result = self._result
        with collected_log(result.log_lines), self._app.request_context(environ):
            if request.endpoint == READY:
                self._wait_for_keys()
            response = self._app.full_dispatch_request()
            exchange = result.exchange = context.current()
            result.status = response.status_code
            result.response_headers = list(response.headers.items())
            if response.content_type == "application/problem+json":
                result.problem = json.loads(response.get_data())
            result.stopped_at = next((stage for stage in result.begun_stages if stage not in result.passed_stages), "")
            if not result.stopped_at and request.routing_exception is not None:
                result.stopped_at = "route"
            result.principal = result.principal or exchange.principal
            result.redis_state = self._rate_limiter.state
            result.has_document = self._refresher.has(exchange.policy.service if exchange.policy else "")
            result.keys_loaded = {issuer.name: issuer.keys.age_seconds is not None for issuer in self._issuers}
        return result

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
        """Waits until the issuers' keys are loaded, as they are in a worker that has been running for a while."""
        deadline = time.monotonic() + FIRST_LOAD_SECONDS
        while time.monotonic() < deadline:
            # A list, not a generator: reading `is_ready` is what starts the loading, and all issuers have to start.
            if all([issuer.keys.is_ready for issuer in self._issuers]):  # noqa: C419 - see above
                return
            time.sleep(0.02)

    def _remember_principal(self) -> None:
        # Remembered here, because the lookup of revocations later removes the principal of a revoked token.
        self._result.principal = context.current().principal

    def _end_before_forwarding(self, _: WouldForward) -> GatewayResponse:
        self._result.would_forward = True
        return GatewayResponse(status=200)

    def _recorded(self, hook: Callable[[], Any]) -> Callable[[], Any]:
        """The hook, changed so that the result records when it begins and whether the request passes it."""
        stage = stage_of(hook)

        @wraps(hook)
        def run() -> Any:
            self._result.begun_stages.append(stage)
            try:
                response = hook()
            except AmbiguousPath as refused:
                self._result.other_path = refused.reading
                raise
            if response is None:
                self._result.passed_stages.add(stage)
            return response

        return run


def stage_of(hook: Callable[..., Any]) -> str:
    if isinstance(getattr(hook, "__self__", None), Limiter):
        return "rate limit"
    function = getattr(hook, "__func__", hook)
    return STAGES.get(function) or function.__qualname__.lstrip("_")


@contextmanager
def collected_log(lines: list[str]) -> Iterator[None]:
    """Adds the gateway's warnings and errors to `lines` instead of logging them."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("gateway"), Collector(logging.WARNING)
    propagated, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagated
