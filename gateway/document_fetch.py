"""Fetches a small document from another server, with bounds on time and size, and without proxies and netrc."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from gateway.config import ServiceSettings
from gateway.errors import ConfigurationError, Overloaded, StreamAborted, UpstreamError, reason_of
from gateway.proxy.requests_session import ServiceSession
from gateway.system.fair_scheduling import yield_if_due
from gateway.url_redaction import redact_url

CONNECT_SECONDS = 2.0
# Timeout for the head of a response, and for each read of its body.
READ_SECONDS = 5.0
# Time limit of a whole fetch, which may try several URLs.
TOTAL_SECONDS = 10.0


class FetchError(Exception):
    """The document could not be fetched. The exception's text is for the log."""


@dataclass(frozen=True, slots=True)
class Document:
    """A fetched document, with the headers of the response in a case-insensitive mapping. `content` is None if the
    document has not changed (304)."""

    content: bytes | None
    fields: Mapping[str, str] = field(default_factory=dict)


# No connection stays open after its response: fetches are rare, and processes must not share a connection after a fork.
FETCH_SETTINGS: dict[str, Any] = {
    "connect_timeout_seconds": CONNECT_SECONDS,
    "read_timeout_seconds": READ_SECONDS,
    "head_timeout_seconds": READ_SECONDS,
    "keepalive_connections": 0,
}


def url_fetcher(url: str, name: str, max_bytes: int, ca_file: Path | None = None) -> Fetcher:
    """Makes a fetcher for any URL. If `ca_file` can't be used, raises a ConfigurationError that names the setting
    `name`."""
    parts = urlsplit(url)
    settings = ServiceSettings(
        prefix="/", targets=(f"{parts.scheme}://{parts.netloc}",), ca_file=ca_file, **FETCH_SETTINGS
    )
    try:
        return Fetcher(ServiceSession(settings, name), [url], max_bytes)
    except ConfigurationError as error:
        # The session's errors name settings of a service; here the setting is `name`.
        raise ConfigurationError([f"{name}: {line.partition(': ')[2]}" for line in error.errors]) from error


def service_fetcher(name: str, service: ServiceSettings, path: str, max_bytes: int) -> Fetcher:
    """Makes a fetcher for a path of a service. It tries the targets in their order, with the service's certificates."""
    urls = [target + path for target in service.targets]
    return Fetcher(ServiceSession(service.model_copy(update=FETCH_SETTINGS), name), urls, max_bytes)


class Fetcher:
    """Fetches from the first URL that responds with the document, over connections of the forwarder."""

    def __init__(self, session: ServiceSession, urls: Sequence[str], max_bytes: int) -> None:
        self._session = session
        self._urls = urls
        self._max_bytes = max_bytes

    def fetch(self, fields: Mapping[str, str] | None = None) -> Document:
        """Fetches the document from the first URL that responds with it. Does not follow redirects. Raises
        FetchError."""
        deadline = time.monotonic() + TOTAL_SECONDS
        failure = FetchError("there is no URL to fetch from")
        for url in self._urls:
            try:
                return self._fetch(url, fields, deadline)
            except FetchError as error:
                failure = FetchError(f"{redact_url(url)}: {error}")
                failure.__cause__ = error
            if time.monotonic() > deadline:
                break
        raise failure

    def _fetch(self, url: str, fields: Mapping[str, str] | None, deadline: float) -> Document:
        wanted = {"Accept-Encoding": "identity", "User-Agent": "gateway", **(fields or {})}
        try:
            remaining = max(0.001, deadline - time.monotonic())
            with self._session.get(
                url, headers=wanted, allow_redirects=False, stream=True, timeout=remaining
            ) as answer:
                if answer.status_code == 304 and fields:
                    return Document(None, answer.headers)
                if answer.status_code != 200:
                    raise FetchError(f"status {answer.status_code}")
                return Document(self._read(answer), answer.headers)
        except (UpstreamError, Overloaded, StreamAborted, requests.RequestException) as error:
            # Some exceptions of requests quote the URL.
            raise FetchError(reason_of(error).replace(url, redact_url(url))) from error

    def _read(self, answer: requests.Response) -> bytes:
        content = bytearray()
        for piece in answer.iter_content():
            content += piece
            # Many tiny pieces can arrive at once and are read without waiting.
            yield_if_due()
            if len(content) > self._max_bytes:
                raise FetchError(f"more than {self._max_bytes} bytes")
        return bytes(content)
