"""How gunicorn serves the gateway. Run again on HUP, so it only loads, checks and sets; `on_starting` runs once."""

from gateway.serving.settings import MASTER

settings = MASTER.load()

from gateway.config.load import instance_folder
from gateway.redis.embedded import EmbeddedRedis, note_file
from gateway.serving import connections, metrics_folder
from gateway.serving.workers import WORKERS

connections.install(settings.server.client_timeout_seconds)

bind = settings.server.bind
workers = settings.server.worker_count
worker_class = WORKERS[settings.server.worker]
threads = settings.server.threads
worker_connections = settings.server.connections_per_worker
# Under gevent this is also the deadline for a request's header.
keepalive = settings.server.keepalive_seconds
graceful_timeout = settings.server.graceful_timeout_seconds
backlog = 2048

# The gateway writes its own access log.
accesslog = None
errorlog = "-"

# The strict parser: gunicorn_h1c, which "auto" prefers where it is installed, takes bare LF and obs-fold.
http_parser = "python"
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 16380
permit_obsolete_folding = False
strip_header_spaces = False
permit_unconventional_http_version = False
casefold_http_method = False
# Any token is a method (RFC 9110 9.1); what it means is its service's business.
permit_unconventional_http_method = True
# X_User_Id and X-User-Id are the same to a WSGI service.
header_map = "drop"
# Whom to believe about the client is the gateway's setting proxy.trusted_hops, not gunicorn's.
forwarded_allow_ips = ""
forwarder_headers = ""
control_socket_disable = True


def on_starting(server):
    if MASTER.in_force.redis_url is None:
        # Kept on the server object: this file's own names are made anew on HUP.
        server.embedded_redis = EmbeddedRedis.start()
        server.embedded_redis.note(note_file(instance_folder(), settings.server.bind))
        MASTER.use_embedded_redis(server.embedded_redis.url)


def post_worker_init(worker):
    # Operators see a worker before its first request, too. An application that failed to load has none.
    if status := getattr(worker.wsgi, "extensions", {}).get("gateway.status"):
        status.start()


def child_exit(server, worker):
    metrics_folder.forget_worker(worker.pid)


def on_exit(server):
    if embedded := getattr(server, "embedded_redis", None):
        embedded.stop()
