"""Puts the gateway's ways to read requests and to write answers in the place of gunicorn's, which has no settings for
them, on any of its workers."""

from __future__ import annotations

from gunicorn import http
from gunicorn.http import wsgi

from gateway.serving import environ
from gateway.serving.answers import Response
from gateway.serving.request_heads import RequestParser


def replace_parts(client_timeout_seconds: float, min_body_bytes_per_second: int) -> None:
    """In the process and those forked from it."""
    Response.client_timeout_seconds = client_timeout_seconds
    Response.min_body_bytes_per_second = min_body_bytes_per_second
    http.RequestParser = RequestParser
    wsgi.create = environ.create
