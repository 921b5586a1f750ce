"""The methods of libraries that the gateway overrides or replaces, and the functions that must use them."""

from __future__ import annotations

from collections.abc import Iterator
from pkgutil import resolve_name
from types import CodeType

from gunicorn.config import make_settings

from gateway.gunicorn.parser_settings import PARSER_SETTINGS

# For each library: a function, its parameters if the gateway replaces it (else ""), and names that it must use.
OVERRIDES: dict[str, list[tuple[str, str, str]]] = {
    "gunicorn": [
        (
            "gunicorn.workers.base_async:AsyncWorker.handle",
            "self listener client addr",
            "get_parser timeout_ctx handle_request _try_h2c_upgrade handle_error",
        ),
        ("gunicorn.workers.base_async:AsyncWorker.handle_request", "self listener_name req sock addr", ""),
        ("gunicorn.workers.base:Worker.handle_error", "self req client addr exc", ""),
        ("gunicorn.workers.base:Worker.init_process", "self", "init_signals run PIPE"),
        ("gunicorn.workers.base:Worker.init_signals", "self", "handle_quit handle_usr1"),
        ("gunicorn.workers.base:Worker.notify", "self", ""),
        ("gunicorn.workers.ggevent:GeventWorker.run", "self", "notify alive"),
        ("gunicorn.http:get_parser", "cfg source source_addr http2_connection", "RequestParser"),
        ("gunicorn.http.parser:Parser.__next__", "", "mesg_class finish_body should_close unreader"),
        ("gunicorn.http.message:Message.__init__", "", "set_body_reader _expected_100_continue"),
        ("gunicorn.http.message:Request.read_into", "self unreader buf stop", ""),
        ("gunicorn.http.message:Request._parse_python", "", "read_into parse_request_line"),
        ("gunicorn.arbiter:Arbiter.run", "", "manage_workers stop"),
        ("gunicorn.arbiter:Arbiter.handle_hup", "", "reload"),
        ("gunicorn.arbiter:Arbiter.reload", "self", "spawn_worker manage_workers reap_workers setup worker_age"),
        ("gunicorn.arbiter:Arbiter.stop", "self graceful", "reap_workers LISTENERS"),
        ("gunicorn.arbiter:Arbiter.spawn_worker", "self", "worker_age LISTENERS WORKERS"),
        ("gunicorn.arbiter:Arbiter.reap_workers", "self", "reexec_pid WORKERS"),
        ("gunicorn.arbiter:Arbiter.manage_workers", "self", "num_workers WORKERS kill_worker"),
        ("gunicorn.arbiter:Arbiter.start", "", "LISTENERS systemd master_pid create_sockets"),
    ],
    "gevent": [
        (
            "gevent.baseserver:BaseServer._do_read",
            "",
            "do_read do_handle stop_accepting max_accept _timer _start_accepting_if_started",
        ),
        ("gevent.hub:Hub.handle_error", "self context type value tb", ""),
    ],
    "Werkzeug": [
        ("werkzeug.routing.rules:Rule.compile", "", "_compile_builder"),
        ("werkzeug.routing.rules:Rule._compile_builder", "self append_unknown", ""),
    ],
    "redis": [
        ("redis.connection:SSLConnection._connect", "self", "_connect _wrap_socket_with_ssl"),
        ("redis.connection:SSLConnection._wrap_socket_with_ssl", "self sock", ""),
        ("redis.sentinel:SentinelManagedConnection._connect_retry", "", "get_master_address"),
        ("redis.sentinel:SentinelConnectionPoolProxy.get_master_address", "", "discover_master"),
        ("redis.sentinel:SentinelConnectionPool.get_master_address", "", "get_master_address"),
        ("redis.sentinel:Sentinel.discover_master", "self service_name", "check_master_state"),
    ],
    "prometheus_client": [
        ("prometheus_client:Histogram.observe", "", "_upper_bounds _buckets _sum inc"),
    ],
}
# The settings in gunicorn.conf.py. They are checked because gunicorn ignores a setting whose name it does not know.
SETTINGS = (
    "bind workers worker_class worker_connections keepalive graceful_timeout backlog accesslog errorlog "
    "control_socket_disable on_starting when_ready on_reload pre_fork post_fork post_worker_init worker_exit child_exit"
).split()


def check_override(path: str, parameters: str, names: str) -> None:
    """Raises AttributeError, ImportError or LookupError if the function is missing or has changed."""
    code: CodeType = resolve_name(path).__code__
    actual = " ".join(code.co_varnames[: code.co_argcount])
    if parameters and actual != parameters:
        raise LookupError(f"{path} has the parameters ({actual}) instead of ({parameters})")
    used = set(names_in(code))
    if missing := [name for name in names.split() if name not in used]:
        raise LookupError(f"{path} does not use {', '.join(missing)}")


def check_settings() -> None:
    if unknown := sorted({*SETTINGS, *PARSER_SETTINGS} - set(make_settings())):
        raise LookupError(f"it has no settings {', '.join(unknown)}")


def names_in(code: CodeType) -> Iterator[str]:
    """The global names and attributes that a function uses, including its nested functions."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)
