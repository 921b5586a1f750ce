"""Puts the gateway's way to read requests in the place of gunicorn's, which has no setting for it."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn import http, sock

from gateway.config import ServerSettings
from gateway.gunicorn.request_bodies import Patience
from gateway.gunicorn.request_heads import Request, RequestParser
from gateway.gunicorn.response_writer import Response

log = logging.getLogger("gunicorn.error")
gunicorns_own = sock.create_sockets


def replace_parts(settings: ServerSettings) -> None:
    """In the process and those forked from it."""
    Request.max_head_bytes = settings.max_head_bytes
    Response.patience = Patience(
        piece_seconds=settings.client_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
        min_bytes_per_second=settings.min_body_bytes_per_second,
    )
    http.RequestParser = RequestParser
    sock.create_sockets = create_sockets


def create_sockets(*given: Any) -> Any:
    """gunicorn's listening sockets. Where it can't have one and gives up, its last word is what can be done."""
    try:
        return gunicorns_own(*given)
    except SystemExit:
        log.error("Not started: choose another address, by PORT or server.bind, or end the process that listens there")
        raise
