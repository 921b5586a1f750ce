"""Builds the gateway; its body reads as the way of a request."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from flask import Flask

from gateway import cors, problems, quota_fields, served_hosts
from gateway.admin import OperatorsOnly, admin_blueprint
from gateway.authentication import Authentication
from gateway.cli import register_commands
from gateway.config import Settings, TracingSettings
from gateway.docs import docs_blueprint
from gateway.documented import DocumentedOnly
from gateway.documents.making import make_library
from gateway.finishing import Finishing
from gateway.flask_app import GatewayApp
from gateway.health import health_blueprint
from gateway.identity import identity_blueprint
from gateway.incoming import Beginning
from gateway.limits.local_counters import LocalCounters
from gateway.limits.redis_counters import RedisCounters
from gateway.limits.rules import Quotas
from gateway.metrics.registry import Metrics
from gateway.parts import REAL, Parts
from gateway.path_check import PathCheck
from gateway.policies import Policy, policies_of
from gateway.proxy.balancer import Balancer
from gateway.proxy.recovery import Recovery
from gateway.proxy.session import ServiceSession
from gateway.proxy.shared_recoveries import SharedRecoveries
from gateway.quota import make_limiter
from gateway.redis.client import SharedRedis
from gateway.reporting.gauges import Gauges
from gateway.reporting.reporting import REPORTING, Reporting
from gateway.reporting.service_watch import ServiceWatch
from gateway.services import RestConverter, service_blueprint
from gateway.status.documents import DocumentsWatch
from gateway.status.making import make_status
from gateway.status.present import LiveService, Present
from gateway.system.ending import GATEWAY_END, WORKER_END
from gateway.tokens.identity import IdentitySigner
from gateway.tokens.verifier import Verifier
from gateway.tracing.trace_context import TRACE_FIELDS, Propagation


def build(settings: Settings, parts: Parts = REAL) -> Flask:
    """The gateway as a WSGI application. Raises ConfigurationError for keys and certificates that can't be used.

    Opens no connection yet, so that a master may build it before it forks."""
    app = GatewayApp("gateway")
    app.url_map.converters["rest"] = RestConverter
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False

    metrics = Metrics()
    redis = SharedRedis.configured(settings, settings.redis_timeout_seconds)
    ladder = parts.ladder(
        RedisCounters(redis) if redis is not None else None,
        LocalCounters(time.monotonic),
        settings.ratelimit.on_redis_failure,
        settings.server.worker_count,
        time.monotonic,
        metrics,
    )
    issuers = parts.issuers(settings.jwt, time.monotonic, random.random)
    verifier = Verifier(settings.jwt, issuers, time.time)
    for issuer in issuers:
        issuer.keys.when_removed = verifier.forget_all
    signer = None
    if settings.identity.sign:
        claims = list(settings.jwt.claims_to_headers)
        signer = IdentitySigner(settings.identity, claims, time.time, verifier.note_signed)
    authentication = Authentication(verifier, settings.revocation, ladder, settings.jwt, signer, metrics)
    policies = list(policies_of(settings))
    limiter = make_limiter(settings.ratelimit, Quotas(settings.ratelimit, policies, settings.jwt.only_issuer), ladder)

    reporting = app.extensions[REPORTING] = Reporting(settings, metrics)

    # The order that a request meets. After the view, hooks run in reverse: the first one registered sees it last.
    app.after_request(Finishing(reporting.notes, time.monotonic).finish)
    if reporting.spans is not None:
        app.after_request(reporting.spans.remember)
    app.before_request(Beginning(settings.proxy, time.monotonic, propagation_of(settings.tracing)).begin)
    hosts = served_hosts.install(app, settings.server.allowed_hosts)
    cors.install(app, settings.cors)
    path_check = PathCheck(app.url_map)
    app.before_request(path_check.check)
    app.before_request(authentication.authenticate)
    limiter.init_app(app)
    quota_fields.install(app, metrics)
    library, keeper = make_library(settings, policies, parts.keeper)
    documented = DocumentedOnly(library, keeper, metrics)
    documents = DocumentsWatch(library, keeper, settings.docs.enabled)
    status, present = make_status(settings, reporting.recent, ladder, issuers, documents)
    reporting.status = status
    reporting.gauges = Gauges(metrics, present, keeper, time.time)

    app.register_blueprint(health_blueprint(ladder, issuers, GATEWAY_END))
    operators = OperatorsOnly(settings.admin)
    app.register_blueprint(admin_blueprint(operators, hosts, metrics, status))
    if settings.docs.enabled:
        guard = authentication.require if settings.docs.auth == "required" else None
        app.register_blueprint(docs_blueprint(library, keeper, guard, authentication.require, operators.would_let_in))
    if signer is not None:
        app.register_blueprint(identity_blueprint(signer))
    recovery = Recovery(time.monotonic, SharedRecoveries(redis) if redis is not None else None)
    guards = [authentication.authorize, documented.check]
    # After the gateway's own: of two mappings of one path the first one counts.
    add_services(app, settings, policies, guards, metrics, parts, present, recovery)
    path_check.prepare()
    problems.install(app)
    register_commands(app, settings)
    return app


def propagation_of(settings: TracingSettings) -> Propagation | None:
    """How traces go on; None where they are none of the gateway's business."""
    if not settings.propagate:
        return None
    is_exporting = settings.otlp_endpoint is not None
    return Propagation(settings.sample_ratio, random.getrandbits, is_exporting=is_exporting)


def add_services(
    app: GatewayApp,
    settings: Settings,
    policies: Sequence[Policy],
    guards: Sequence[Callable[[], None]],
    metrics: Metrics,
    parts: Parts,
    present: Present,
    recovery: Recovery,
) -> None:
    """One blueprint per service: its guards, then the forwarder with its own pooled session."""
    own_names = settings.jwt.identity_fields | (TRACE_FIELDS if settings.tracing.propagate else frozenset())
    checks = parts.health_checks(time.monotonic, random.random)
    app.background += [checks.start, recovery.start]
    for name, service in settings.services.items():
        balancer, own_guards = Balancer(service, time.monotonic, random.random), list(guards)
        recovery.add(name, service, balancer.states)
        if service.health.path is not None:
            checks.add(name, service, balancer.states)
            # Servers other than gunicorn don't start it with the worker; where the thread has failed, it starts again.
            own_guards.insert(0, checks.start)
        session = ServiceSession(service, name, WORKER_END)
        forwarder = parts.forwarder(
            service,
            session,
            own_names,
            balancer,
            time.monotonic,
            random.random,
            ServiceWatch(name, metrics),
        )
        is_asked = service.health.path is not None
        present.add(
            name,
            LiveService(service.prefix, forwarder, service.max_in_flight, balancer.states, session, is_asked),
        )
        own = [policy for policy in policies if policy.service == name]
        app.register_blueprint(service_blueprint(name, own, forwarder, own_guards, time.monotonic))
