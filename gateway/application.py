"""Builds the application: the engines, the stages in the order in which a request meets them, and the routes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from flask import Flask

from gateway.api_documents.factory import make_catalog
from gateway.cli import register_commands
from gateway.config import Settings, TracingSettings
from gateway.dependencies import DEFAULTS, Dependencies
from gateway.flask_app import GatewayApp
from gateway.proxy.balancer import Balancer
from gateway.proxy.health_checks import HealthChecks
from gateway.proxy.recovery_monitor import RecoveryMonitor
from gateway.proxy.requests_session import ServiceSession
from gateway.proxy.shared_recoveries import SharedRecoveries
from gateway.rate_limiting.limit_sets import LimitSets
from gateway.rate_limiting.local_counters import LocalCounters
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.redis.client import SharedRedis
from gateway.route_policy import RoutePolicy, policies_of
from gateway.routes.admin import OperatorsOnly, admin_blueprint
from gateway.routes.docs.views import docs_blueprint
from gateway.routes.jwks import identity_blueprint
from gateway.routes.probes import health_blueprint
from gateway.routes.upstream import service_blueprint
from gateway.stages import cors, host_check, problems, rate_limit_headers
from gateway.stages.authentication import Authentication
from gateway.stages.finish import RequestFinish
from gateway.stages.operation_check import OperationCheck
from gateway.stages.path_check import PathCheck
from gateway.stages.rate_limit import make_limiter
from gateway.stages.start import RequestStart
from gateway.status.factory import make_status
from gateway.status.service_documents import ServiceDocuments
from gateway.status.worker_state import LiveService, WorkerState
from gateway.system.shutdown import GATEWAY_SHUTDOWN, WORKER_SHUTDOWN
from gateway.telemetry.gauges import Gauges
from gateway.telemetry.metrics.registry import Metrics
from gateway.telemetry.span_recorder import store_url_rule
from gateway.telemetry.telemetry import TELEMETRY, Telemetry
from gateway.tokens.identity_signer import IdentitySigner
from gateway.tokens.verifier import Verifier
from gateway.trace_context import TRACE_HEADERS, Propagator
from gateway.url_rules import RestConverter


def build(settings: Settings, dependencies: Dependencies = DEFAULTS) -> Flask:
    """Builds the gateway's WSGI application. Raises ConfigurationError if a key or certificate can't be used.

    Opens no connection, so that gunicorn's master can call it before it forks."""
    app = GatewayApp("gateway")
    app.url_map.converters["rest"] = RestConverter
    app.url_map.merge_slashes = False
    # `/a/` matches the rule of `/a`: a final slash must not be a way around a policy.
    app.url_map.strict_slashes = False

    metrics = Metrics()
    redis = SharedRedis.configured(settings, settings.redis_timeout_seconds)
    rate_limiter = dependencies.rate_limiter(
        RedisCounters(redis) if redis is not None else None,
        LocalCounters(time.monotonic),
        settings.ratelimit.on_redis_failure,
        settings.server.worker_count,
        time.monotonic,
        metrics,
    )
    issuers = dependencies.issuers(settings.jwt, time.monotonic, random.random)
    verifier = Verifier(settings.jwt, issuers, time.time)
    for issuer in issuers:
        issuer.keys.on_key_removed = verifier.clear_cache
    signer = None
    if settings.identity.sign:
        claims = list(settings.jwt.claims_to_headers)
        signer = IdentitySigner(settings.identity, claims, time.time, verifier.add_signed_bytes)
    authentication = Authentication(verifier, settings.revocation, rate_limiter, settings.jwt, signer, metrics)
    policies = list(policies_of(settings))
    limiter = make_limiter(
        settings.ratelimit, LimitSets(settings.ratelimit, policies, settings.jwt.only_issuer), rate_limiter
    )

    telemetry = app.extensions[TELEMETRY] = Telemetry(settings, metrics)

    # The stages, in the order in which a request meets them. `after_request` functions run in reverse order: the first
    # one here sees the response last, so that `finish` adds the request id to every response, also to errors.
    app.after_request(RequestFinish(telemetry.records, time.monotonic).finish)
    if telemetry.spans is not None:
        app.after_request(store_url_rule)
    # First: all later stages read the exchange that it creates.
    app.before_request(RequestStart(settings.proxy, time.monotonic, make_propagator(settings.tracing)).begin)
    hosts = host_check.install(app, settings.server.allowed_hosts)
    # Before authentication and limits: a preflight carries no token, and must not count against a rate limit.
    cors.install(app, settings.cors)
    # Before authentication, which applies the policy of the path: the service must read the same path.
    path_check = PathCheck(app.url_map)
    app.before_request(path_check.check)
    # Before the limits, which depend on the caller. `authenticate` refuses no request: the limits count requests with
    # bad tokens, too.
    app.before_request(authentication.authenticate)
    limiter.init_app(app)
    rate_limit_headers.install(app, metrics)
    catalog, refresher = make_catalog(settings, policies, dependencies.refresher)
    operation_check = OperationCheck(catalog, refresher, metrics)
    documents = ServiceDocuments(catalog, refresher, settings.docs.enabled)
    status, worker_state = make_status(settings, telemetry.rolling_stats, rate_limiter, issuers, documents)
    app.background.append(status.start)
    telemetry.gauges = Gauges(metrics, worker_state, refresher, time.time)

    app.register_blueprint(health_blueprint(rate_limiter, issuers, GATEWAY_SHUTDOWN))
    operators = OperatorsOnly(settings.admin)
    app.register_blueprint(admin_blueprint(operators, hosts, metrics, status))
    if settings.docs.enabled:
        guard = authentication.require if settings.docs.auth == "required" else None
        app.register_blueprint(
            docs_blueprint(catalog, refresher, guard, authentication.require, operators.would_let_in)
        )
    if signer is not None:
        app.register_blueprint(identity_blueprint(signer))
    recovery = RecoveryMonitor(time.monotonic, SharedRecoveries(redis) if redis is not None else None)
    guards = [authentication.authorize, operation_check.check]
    # After the gateway's own routes: of two rules for one path the first one wins.
    add_services(app, settings, policies, guards, metrics, dependencies, worker_state, recovery)
    path_check.prepare()
    problems.install(app)
    register_commands(app, settings, build)
    return app


def make_propagator(settings: TracingSettings) -> Propagator | None:
    """Makes the propagator, which continues or starts the trace of each request; None with `tracing.propagate =
    false`."""
    if not settings.propagate:
        return None
    is_exporting = settings.otlp_endpoint is not None
    return Propagator(settings.sample_ratio, random.getrandbits, is_exporting=is_exporting)


def add_services(
    app: GatewayApp,
    settings: Settings,
    policies: Sequence[RoutePolicy],
    guards: Sequence[Callable[[], None]],
    metrics: Metrics,
    dependencies: Dependencies,
    worker_state: WorkerState,
    recovery: RecoveryMonitor,
) -> None:
    """Registers one blueprint per service: its guards, then the forwarder with a connection pool of its own."""
    own_names = settings.jwt.identity_fields | (TRACE_HEADERS if settings.tracing.propagate else frozenset())
    checks = HealthChecks(time.monotonic, random.random)
    app.background += [checks.start, recovery.start]
    for name, service in settings.services.items():
        balancer = Balancer(service, time.monotonic, random.random)
        recovery.add(name, service, balancer.states)
        if service.health.path is not None:
            checks.add(name, service, balancer.states)
        session = ServiceSession(service, name, WORKER_SHUTDOWN)
        forwarder = dependencies.forwarder(
            service,
            session,
            own_names,
            balancer,
            time.monotonic,
            random.random,
            name,
            metrics,
        )
        worker_state.services[name] = LiveService(service, forwarder, balancer.states, session)
        own = [policy for policy in policies if policy.service == name]
        app.register_blueprint(service_blueprint(name, own, forwarder, guards, time.monotonic))
