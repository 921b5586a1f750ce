"""gunicorn's configuration for the gateway. gunicorn runs this file again on each reload (HUP); `on_starting` runs
once."""

import sys

from gateway.system.cleanup import exit_quietly_on_signals

exit_quietly_on_signals()

from gateway.gunicorn.master_config import MASTER_CONFIG

settings = MASTER_CONFIG.load()

from gateway.errors import ConfigurationError
from gateway.flask_app import GatewayApp
from gateway.gunicorn.arbiter_extension import ArbiterExtension
from gateway.gunicorn.base_worker import HAS_SERVED
from gateway.gunicorn.gevent_worker import WORKER_CLASS
from gateway.gunicorn.listeners import Listeners
from gateway.gunicorn.parser_settings import PARSER_SETTINGS
from gateway.gunicorn.patches import patch_gunicorn
from gateway.redis.private_server import PrivateRedis
from gateway.system.memory import share_memory_with_workers
from gateway.system.stderr import install_non_blocking_stderr
from gateway.telemetry.metrics.worker_files import free_number, release_number, use_number
from gateway.telemetry.telemetry import telemetry_of

install_non_blocking_stderr()
patch_gunicorn(settings.server)

# The addresses at the start. On a reload, `Listeners` changes them.
bind = MASTER_CONFIG.addresses_at_start
workers = settings.server.worker_count
worker_class = WORKER_CLASS
worker_connections = settings.server.connections_per_worker
# The gateway's worker also uses this time as the deadline for a request head.
keepalive = settings.server.keepalive_seconds
graceful_timeout = settings.server.graceful_timeout_seconds
backlog = 2048

# The gateway writes its own access log.
accesslog = None
errorlog = "-"

# Settings of the HTTP parser; `flask explain` uses the same ones.
globals().update(PARSER_SETTINGS)
control_socket_disable = True


def on_starting(server):
    if server.cfg.worker_class_str != WORKER_CLASS:
        sys.exit(f"--worker-class {server.cfg.worker_class_str}: the gateway needs its own one; remove this option")
    server.log.info("Configuration: %s", MASTER_CONFIG.sources)
    share_memory_with_workers(collect=False)
    # Stored in MASTER_CONFIG and in the server: both survive a reload, which runs this file again and so replaces its
    # own global variables.
    MASTER_CONFIG.listeners = Listeners(server, MASTER_CONFIG.addresses_at_start)
    server.gateway = ArbiterExtension(server, MASTER_CONFIG.listeners)
    if MASTER_CONFIG.in_force.redis_url is None:
        try:
            server.gateway.redis = PrivateRedis.start()
        except ConfigurationError as error:
            sys.exit(error.listing())
        MASTER_CONFIG.use_private_redis(server.gateway.redis.url)
        server.log.info(
            "redis_url is not set: counters and revocations are in a private Redis that ends with this gateway"
        )


def when_ready(server):
    server.gateway.write_redis_url_files()


def on_reload(server):
    MASTER_CONFIG.listeners.apply()
    if MASTER_CONFIG.is_reloaded:
        server.log.info("Configuration: %s", MASTER_CONFIG.sources)
        server.gateway.log_when_reloaded()
    share_memory_with_workers(collect=True)
    server.gateway.write_redis_url_files()


def pre_fork(server, worker):
    worker.metrics_number = free_number(other.metrics_number for other in server.WORKERS.values())


def post_fork(server, worker):
    use_number(worker.metrics_number)


def post_worker_init(worker):
    if telemetry := telemetry_of(worker.wsgi):
        telemetry.start(worker.connections)
    if isinstance(worker.wsgi, GatewayApp):
        worker.wsgi.start_background()
    HAS_SERVED.set()


def worker_exit(server, worker):
    # A worker that could not start has no application.
    if telemetry := telemetry_of(getattr(worker, "wsgi", None)):
        telemetry.finish()


def child_exit(server, worker):
    release_number(worker.metrics_number)
