"""Fetches a small document from another server: bounded in time and size, verified, nothing of the machine's added."""

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
from gateway.proxy.session import ServiceSession
from gateway.system.time_slice import yield_if_due
from gateway.url_redaction import masked_address

CONNECT_SECONDS = 2.0
# For the head, and between bytes after it.
READ_SECONDS = 5.0
# For all targets that are asked.
TOTAL_SECONDS = 10.0


class FetchError(Exception):
    """The document could not be had. The text is for the log."""


@dataclass(frozen=True, slots=True)
class Document:
    """A fetched document; `fields` are the answer's, by any case. `content` is None where it has not changed (304)."""

    content: bytes | None
    fields: Mapping[str, str] = field(default_factory=dict)


# Asked too seldom for a connection to be worth keeping; and none can be shared by both sides of a fork.
PATIENCE: dict[str, Any] = {
    "connect_timeout_seconds": CONNECT_SECONDS,
    "read_timeout_seconds": READ_SECONDS,
    "head_timeout_seconds": READ_SECONDS,
    "keepalive_connections": 0,
}


def url_fetcher(url: str, name: str, max_bytes: int, ca_file: Path | None = None) -> Fetcher:
    """Fetches from anywhere. `name` is the setting that a certificate file is told under where it can't be used
    (ConfigurationError)."""
    parts = urlsplit(url)
    settings = ServiceSettings(prefix="/", targets=(f"{parts.scheme}://{parts.netloc}",), ca_file=ca_file, **PATIENCE)
    try:
        return Fetcher(ServiceSession(settings, name), [url], max_bytes)
    except ConfigurationError as error:
        # Told as a service's setting, which it is not.
        raise ConfigurationError([f"{name}: {line.partition(': ')[2]}" for line in error.errors]) from error


def service_fetcher(name: str, service: ServiceSettings, path: str, max_bytes: int) -> Fetcher:
    """Fetches what a service has at a path of its own, from its first target that gives it; by the service's own
    certificates."""
    urls = [target + path for target in service.targets]
    return Fetcher(ServiceSession(service.model_copy(update=PATIENCE), name), urls, max_bytes)


class Fetcher:
    """Fetches from the first of the URLs that answers, over the same strict connections that services are reached
    by."""

    def __init__(self, session: ServiceSession, urls: Sequence[str], max_bytes: int) -> None:
        self._session = session
        self._urls = urls
        self._max_bytes = max_bytes

    def fetch(self, fields: Mapping[str, str] | None = None) -> Document:
        """The document now. Redirects are not followed. Raises FetchError."""
        deadline = time.monotonic() + TOTAL_SECONDS
        failure = FetchError("nobody was asked")
        for url in self._urls:
            try:
                return self._fetch(url, fields, deadline)
            except FetchError as error:
                failure = FetchError(f"{masked_address(url)}: {error}")
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
            # Of requests' own errors, some quote the URL.
            raise FetchError(reason_of(error).replace(url, masked_address(url))) from error

    def _read(self, answer: requests.Response) -> bytes:
        content = bytearray()
        for piece in answer.iter_content():
            content += piece
            # In tiny pieces, many of them are read without waiting.
            yield_if_due()
            if len(content) > self._max_bytes:
                raise FetchError(f"more than {self._max_bytes} bytes")
        return bytes(content)
