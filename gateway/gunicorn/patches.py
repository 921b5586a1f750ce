"""Replaces gunicorn's request parser and its creation of sockets, for which gunicorn has no settings."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn import http, sock

from gateway.config import ServerSettings
from gateway.gunicorn.request_heads import Request, RequestParser
from gateway.gunicorn.response_writer import Response
from gateway.gunicorn.slow_clients import ClientTimeouts

log = logging.getLogger("gunicorn.error")
gunicorn_create_sockets = sock.create_sockets


def patch_gunicorn(settings: ServerSettings) -> None:
    """Replaces gunicorn's parser, its creation of sockets and the limits on requests, in this process and its forks."""
    Request.max_head_bytes = settings.max_head_bytes
    Response.timeouts = ClientTimeouts(
        piece_seconds=settings.client_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
        min_bytes_per_second=settings.min_body_bytes_per_second,
    )
    http.RequestParser = RequestParser
    sock.create_sockets = create_sockets


def create_sockets(*given: Any) -> Any:
    """Opens gunicorn's listening sockets. gunicorn exits if it can't open one; before that, a log line says what to
    do."""
    try:
        return gunicorn_create_sockets(*given)
    except SystemExit:
        log.error(
            "Not started: choose another address, by PORT or server.bind. If the address is in use, end the "
            "process that listens there"
        )
        raise
