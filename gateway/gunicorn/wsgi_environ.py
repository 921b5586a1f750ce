"""The WSGI environ of a request (PEP 3333), made in one pass over its header fields."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gunicorn.config import Config
from gunicorn.http import wsgi

from gateway.gunicorn.request_heads import Request
from gateway.gunicorn.response_writer import Response
from gateway.http_fields import CACHED_NAMES
from gateway.proxy.path_validation import decode_once

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

CONTENT_KEYS = {"CONTENT-TYPE": "CONTENT_TYPE", "CONTENT-LENGTH": "CONTENT_LENGTH"}
JOINED_BY = ","


def create(req: Request, sock: Any, client: Any, server: Any, cfg: Config) -> tuple[Response, WSGIEnvironment]:
    """Makes the response to write, and the environ. `client` and `server` are the addresses of the connection."""
    response = Response(req, sock, cfg)
    environ: WSGIEnvironment = {
        **base_environ(cfg),
        "wsgi.input": req.body,
        "wsgi.url_scheme": req.scheme,
        "gunicorn.socket": sock,
        "gateway.send_interim": response.send_interim,
        "REQUEST_METHOD": req.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": decode_once(req.path).decode("latin-1") if "%" in req.path else req.path,
        "QUERY_STRING": req.query,
        "RAW_URI": req.uri,
        "SERVER_PROTOCOL": "HTTP/1.1" if req.version == (1, 1) else f"HTTP/{req.version[0]}.{req.version[1]}",
    }
    for name, value in req.headers:
        key = environ_key(name)
        environ[key] = f"{environ[key]}{JOINED_BY}{value}" if key in environ else value
    # The addresses of a unix socket are not tuples.
    if isinstance(client, tuple):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
    else:
        environ["REMOTE_ADDR"] = client.decode() if isinstance(client, bytes) else client
    if isinstance(server, tuple):
        environ["SERVER_NAME"], environ["SERVER_PORT"] = server[0], str(server[1])
    else:
        environ["SERVER_NAME"], environ["SERVER_PORT"] = environ.get("HTTP_HOST", server), ""
    if req.proxy_protocol_info:
        environ.update(wsgi.proxy_environ(req))
    return response, environ


@lru_cache(maxsize=CACHED_NAMES)
def environ_key(name: str) -> str:
    """The environ key of a field name in upper case."""
    return CONTENT_KEYS.get(name) or "HTTP_" + name.replace("-", "_")


@lru_cache(maxsize=8)
def base_environ(cfg: Config) -> WSGIEnvironment:
    """The part of the environ that is the same for all requests."""
    environ: WSGIEnvironment = wsgi.base_environ(cfg)
    return environ
