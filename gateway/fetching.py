"""Fetches a small document from another server: bounded in time and size, verified, nothing of the machine's added."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import requests

from gateway.config import ServiceSettings
from gateway.errors import ConfigurationError, StreamAborted, UpstreamError
from gateway.proxy.session import ServiceSession

CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0
TOTAL_SECONDS = 10.0


class FetchError(Exception):
    """The document could not be had. The text is for the log."""


@dataclass(frozen=True, slots=True)
class Document:
    """A fetched document; `fields` are the answer's, by any case. `content` is None where it has not changed (304)."""

    content: bytes | None
    fields: Mapping[str, str] = field(default_factory=dict)


class Fetcher:
    """Fetches one URL, over the same strict connections that services are reached by.

    `name` is the setting that a certificate file is told under where it can't be used (ConfigurationError)."""

    def __init__(self, url: str, name: str, max_bytes: int, ca_file: Path | None = None) -> None:
        parts = urlsplit(url)
        settings = ServiceSettings(
            prefix="/",
            targets=(f"{parts.scheme}://{parts.netloc}",),
            connect_timeout_seconds=CONNECT_SECONDS,
            read_timeout_seconds=READ_SECONDS,
            # Asked too seldom for a connection to be worth keeping; and none can be shared by both sides of a fork.
            keepalive_connections=0,
            ca_file=ca_file,
        )
        self._url = url
        self._max_bytes = max_bytes
        try:
            self._session = ServiceSession(settings, name)
        except ConfigurationError as error:
            # Told as a service's setting, which it is not.
            mistakes = [f"{name}: {line.partition(': ')[2]}" for line in error.mistakes]
            raise ConfigurationError(mistakes) from error

    def fetch(self, fields: Mapping[str, str] | None = None) -> Document:
        """The document now. Redirects are not followed. Raises FetchError."""
        deadline = time.monotonic() + TOTAL_SECONDS
        wanted = {"Accept-Encoding": "identity", "User-Agent": "gateway", **(fields or {})}
        try:
            with self._session.get(self._url, headers=wanted, allow_redirects=False, stream=True) as answer:
                if answer.status_code == 304 and fields:
                    return Document(None, answer.headers)
                if answer.status_code != 200:
                    raise FetchError(f"status {answer.status_code}")
                return Document(self._read(answer, deadline), answer.headers)
        except (UpstreamError, StreamAborted, requests.RequestException) as error:
            raise FetchError(f"{error}: {error.__cause__!r}" if error.__cause__ else str(error)) from error

    def _read(self, answer: requests.Response, deadline: float) -> bytes:
        content = b""
        for piece in answer.iter_content():
            content += piece
            if len(content) > self._max_bytes:
                raise FetchError(f"more than {self._max_bytes} bytes")
            if time.monotonic() > deadline:
                raise FetchError(f"not whole after {TOTAL_SECONDS:.0f} s")
        return content
