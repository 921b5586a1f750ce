"""The gateway as it is, but for the parts that reach beyond the process: these only look."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

from flask import Flask, request
from flask_limiter import Limiter

from gateway import context
from gateway.api_documents.refresher import DocumentRefresher
from gateway.application import build
from gateway.config import Settings
from gateway.context import Exchange
from gateway.dependencies import Dependencies
from gateway.errors import AmbiguousPath
from gateway.explain.dry_run_parts import (
    DryRunForwarder,
    DryRunLimiter,
    DryRunRefresher,
    NoHealthChecks,
    NotSent,
    Sending,
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
from gateway.tokens.key_source import FIRST_LOAD_SECONDS
from gateway.tokens.principal import Principal

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

READY = "gateway.readyz"
# The hooks that are stages, by their functions; others (of whoever extends the gateway) go by their own names.
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
    """What came of a request. `answer` has the header fields of the gateway's answer, or those that it would add to the
    service's; `problem` the problem document; `stopped_at` the stage that answered or refused, "" for none."""

    exchange: Exchange
    endpoint: str | None
    status: int
    answer: HeaderPairs
    problem: dict[str, Any] | None
    begun: list[str]
    stopped_at: str
    verified: Principal | None
    bad_reading: str | None
    sendings: list[Sending]
    is_sent: bool
    redis_state: str
    has_document: bool
    keys_loaded: dict[str, bool]
    notes: list[str]


@dataclass
class DryRun:
    """One gateway for one request."""

    settings: Settings
    _begun: list[str] = field(default_factory=list)
    _done: set[str] = field(default_factory=set)
    _sendings: list[Sending] = field(default_factory=list)
    _verified: Principal | None = None
    _is_sent: bool = False
    _bad_reading: str | None = None

    def __post_init__(self) -> None:
        parts = Dependencies(
            issuers=self._keep_issuers,
            rate_limiter=self._keep_ladder,
            refresher=self._keep_keeper,
            health_checks=NoHealthChecks,
            forwarder=lambda *given: DryRunForwarder(self._sendings, *given),
        )
        self.app = build(self.settings, parts)
        self._watch_hooks(self.app)
        self.app.before_request(self._note_principal)
        self.app.register_error_handler(NotSent, self._answer_not_sent)

    def run(self, environ: WSGIEnvironment) -> DryRunResult:
        with collected_log() as notes, self.app.request_context(environ):
            if request.endpoint == READY:
                self._wait_for_keys()
            response = self.app.full_dispatch_request()
            exchange = context.current()
            stopped_at = next((stage for stage in self._begun if stage not in self._done), "")
            if not stopped_at and request.routing_exception is not None:
                stopped_at = "route"
            is_problem = response.content_type == "application/problem+json"
            service = exchange.policy.service if exchange.policy else ""
            return DryRunResult(
                exchange=exchange,
                endpoint=request.endpoint,
                status=response.status_code,
                answer=list(response.headers.items()),
                problem=json.loads(response.get_data()) if is_problem else None,
                begun=self._begun,
                stopped_at=stopped_at,
                verified=self._verified or exchange.principal,
                bad_reading=self._bad_reading,
                sendings=self._sendings,
                is_sent=self._is_sent,
                redis_state=self._rate_limiter.state,
                has_document=self._refresher.has(service),
                keys_loaded={one.name: one.keys.age_seconds is not None for one in self._issuers},
                notes=notes,
            )

    def _keep_issuers(self, *given: Any) -> list[Issuer]:
        self._issuers = make_issuers(*given)
        return self._issuers

    def _keep_ladder(self, *given: Any) -> FallbackLimiter:
        self._rate_limiter = DryRunLimiter(*given)
        return self._rate_limiter

    def _keep_keeper(self, *given: Any) -> DocumentRefresher:
        self._refresher = DryRunRefresher(*given)
        return self._refresher

    def _wait_for_keys(self) -> None:
        """As a worker that is asked whether it is ready has had the time to load them."""
        deadline = time.monotonic() + FIRST_LOAD_SECONDS
        while time.monotonic() < deadline:
            # Of all of them: asking is what starts the loading.
            loaded = [one.keys.is_ready for one in self._issuers]
            if all(loaded):
                return
            time.sleep(0.02)

    def _note_principal(self) -> None:
        # Later on, a revoked token has none any more.
        self._verified = context.current().principal

    def _answer_not_sent(self, _: NotSent) -> GatewayResponse:
        self._is_sent = True
        return GatewayResponse(status=200)

    def _watch_hooks(self, app: Flask) -> None:
        for hooks in app.before_request_funcs.values():
            hooks[:] = [self._watched(hook) for hook in hooks]

    def _watched(self, hook: Callable[[], Any]) -> Callable[[], Any]:
        name = stage_of(hook)

        @wraps(hook)
        def run() -> Any:
            self._begun.append(name)
            try:
                answer = hook()
            except AmbiguousPath as refused:
                self._bad_reading = refused.reading
                raise
            if answer is None:
                self._done.add(name)
            return answer

        return run


def stage_of(hook: Callable[..., Any]) -> str:
    if isinstance(getattr(hook, "__self__", None), Limiter):
        return "quota"
    function = getattr(hook, "__func__", hook)
    return STAGES.get(function) or function.__qualname__.lstrip("_")


@contextmanager
def collected_log() -> Iterator[list[str]]:
    """What the gateway logs meanwhile, instead of having it logged."""
    lines: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("gateway"), Collecting(logging.WARNING)
    propagated, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)
        log.propagate = propagated
