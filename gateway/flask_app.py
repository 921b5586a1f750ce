"""The Flask application, without sessions, routing by host and asynchronous views: no request to a gateway needs them.

Flask extensions work as usual. The omitted parts would cost as much time per request as the round trip to Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flask import Flask, Request
from flask.ctx import RequestContext
from flask.sessions import NullSession
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter

from gateway import context
from gateway.errors import drop_tracebacks
from gateway.responses import GatewayResponse
from gateway.url_rules import PolicyRule

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

NO_SESSION = NullSession()


class GatewayApp(Flask):
    response_class = GatewayResponse
    url_rule_class = PolicyRule  # type: ignore[assignment] # Flask calls it with the options of add_url_rule

    def __init__(self, name: str) -> None:
        super().__init__(name, static_folder=None)
        # Functions that start the background threads of a worker, after the fork.
        self.background: list[Callable[[], None]] = []

    def start_background(self) -> None:
        for start in self.background:
            start()

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        context.end()
        return super().wsgi_app(environ, start_response)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Returns `func` unchanged. Flask's own method checks at each call of each stage whether it is a coroutine
        function."""
        return func

    def request_context(self, environ: WSGIEnvironment) -> RequestContext:
        """A context without a session, unless SECRET_KEY is set."""
        return GatewayRequestContext(self, environ, session=None if self.config["SECRET_KEY"] else NO_SESSION)

    def handle_user_exception(self, e: Exception) -> HTTPException | ResponseReturnValue:
        answer = super().handle_user_exception(e)
        drop_tracebacks(e)
        return answer

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Binds the URL rules to the request. All hosts have the same rules."""
        if request is None and self.config["SERVER_NAME"] is None:
            return None
        # Werkzeug handles the rare cases; for an Upgrade header, it finds out whether the request is for a WebSocket.
        if request is None or self.config["TRUSTED_HOSTS"] is not None or "HTTP_UPGRADE" in request.environ:
            return super().create_url_adapter(request)
        environ = request.environ
        scheme, host = request.scheme, environ.get("HTTP_HOST")
        name = server_name(scheme, environ["SERVER_NAME"] if host is None else host)
        return MapAdapter(self.url_map, name, "/", "", scheme, request.path, request.method, environ["QUERY_STRING"])


class GatewayRequestContext(RequestContext):
    def match_request(self) -> None:
        super().match_request()
        # The request and the traceback of this exception refer to each other. The exception is never raised, and so
        # never dropped elsewhere, if a stage refuses the request first.
        drop_tracebacks(self.request.routing_exception)


@lru_cache(maxsize=256)
def server_name(scheme: str, host: str) -> str:
    """The host name as Werkzeug normalizes it. Raises BadHost."""
    environ = {"wsgi.url_scheme": scheme, "HTTP_HOST": host, "REQUEST_METHOD": "GET"}
    return Map().bind_to_environ(environ).server_name
