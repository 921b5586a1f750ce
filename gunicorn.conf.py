"""How gunicorn serves the gateway. Run again on HUP, so it only loads, checks and sets; `on_starting` runs once."""

import sys

from gateway.system.cleanup import end_quietly_by_signals

end_quietly_by_signals()

from gateway.gunicorn.master_config import MASTER

settings = MASTER.load()

from gateway.errors import ConfigurationError
from gateway.flask_app import GatewayApp
from gateway.gunicorn.arbiter_extension import ArbiterExtension
from gateway.gunicorn.base_worker import HAS_SERVED
from gateway.gunicorn.gevent_worker import WORKER_CLASS
from gateway.gunicorn.listeners import Listeners
from gateway.gunicorn.parser_settings import MESSAGE_RULES
from gateway.gunicorn.patches import replace_parts
from gateway.redis.private_server import PrivateRedis
from gateway.system.memory import share_memory_with_workers
from gateway.system.stderr import wait_for_no_reader
from gateway.telemetry.metrics.worker_files import free_number, release_number, use_number
from gateway.telemetry.telemetry import telemetry_of

wait_for_no_reader()
replace_parts(settings.server)

# What a reload changes about it, `Listeners` does.
bind = MASTER.addresses_at_start
workers = settings.server.worker_count
worker_class = WORKER_CLASS
worker_connections = settings.server.connections_per_worker
# This is also the deadline for a request's header.
keepalive = settings.server.keepalive_seconds
graceful_timeout = settings.server.graceful_timeout_seconds
backlog = 2048

# The gateway writes its own access log.
accesslog = None
errorlog = "-"

# Shared with `flask explain`, which has messages read the same way.
globals().update(MESSAGE_RULES)
control_socket_disable = True


def on_starting(server):
    if server.cfg.worker_class_str != WORKER_CLASS:
        sys.exit(f"--worker-class {server.cfg.worker_class_str}: the gateway runs on its own worker; leave it out")
    server.log.info("Configuration: %s", MASTER.sources)
    share_memory_with_workers(collect=False)
    # Kept on the server object: this file's own names are made anew on HUP.
    MASTER.listeners = Listeners(server, MASTER.addresses_at_start)
    server.care = ArbiterExtension(server, MASTER.listeners)
    if MASTER.in_force.redis_url is None:
        try:
            server.care.redis = PrivateRedis.start()
        except ConfigurationError as error:
            sys.exit("The configuration can't be used:\n" + error.listing())
        MASTER.use_embedded_redis(server.care.redis.url)
        server.log.info("redis_url is not set: counters and revocations are this gateway's alone, and end with it")


def when_ready(server):
    server.care.note_redis()


def on_reload(server):
    MASTER.listeners.apply()
    if MASTER.is_reloaded:
        server.log.info("Configuration: %s", MASTER.sources)
        server.care.confirm_reload()
    share_memory_with_workers(collect=True)
    server.care.note_redis()


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
    # One that could not start serves nothing.
    if telemetry := telemetry_of(getattr(worker, "wsgi", None)):
        telemetry.finish()


def child_exit(server, worker):
    release_number(worker.metrics_number)
