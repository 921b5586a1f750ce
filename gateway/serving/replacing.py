"""Puts the gateway's way to read requests in the place of gunicorn's, which has no setting for it."""

from __future__ import annotations

from gunicorn import http

from gateway.config import ServerSettings
from gateway.serving.answers import Response
from gateway.serving.request_bodies import Patience
from gateway.serving.request_heads import Request, RequestParser


def replace_parts(settings: ServerSettings) -> None:
    """In the process and those forked from it."""
    Request.max_head_bytes = settings.max_head_bytes
    Response.patience = Patience(
        piece_seconds=settings.client_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
        min_bytes_per_second=settings.min_body_bytes_per_second,
    )
    http.RequestParser = RequestParser
