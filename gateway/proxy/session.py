"""The pooled requests session of a service, and the adapter that sends a ready request as it is.

`requests` itself would re-quote the path, add headers, keep cookies between callers, read proxies and passwords from
the environment and follow redirects; urllib3 below it takes an interim answer for the final one and accepts heads that
two readers understand differently. So the session keeps no state and its adapter speaks HTTP/1.1 by `connection`.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import certifi
import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from gateway.config import ServiceSettings
from gateway.errors import ConfigurationError
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.connector import connect
from gateway.proxy.http1 import ResponseHead
from gateway.proxy.idle_connections import IdleConnections
from gateway.proxy.response_body import UpstreamBody
from gateway.proxy.round_trip import ReadyRequest, exchange
from gateway.proxy.target import Target
from gateway.proxy.timeouts import Timeouts
from gateway.system.shutdown import WorkerShutdown


class UpstreamResponse(requests.Response):
    """An answer, for callers that use the session as any other; `raw` is its body as it comes."""

    def __init__(self, request: requests.PreparedRequest, head: ResponseHead, body: UpstreamBody) -> None:
        super().__init__()
        self.status_code = head.status
        self.reason = head.reason
        self.fields = head.fields
        self.raw = body
        self.request = request
        self.url = request.url or ""

    @property
    def headers(self) -> CaseInsensitiveDict[str]:
        """The folded view that requests' users expect."""
        folded: CaseInsensitiveDict[str] = CaseInsensitiveDict()
        for name, value in self.fields:
            folded[name] = f"{folded[name]}, {value}" if name in folded else value
        return folded

    @headers.setter
    def headers(self, _: object) -> None:
        """requests' own constructor sets an empty one."""

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Iterator[Any]:
        """The body as it comes, whatever `chunk_size` says; content codings are left alone."""
        return iter(self.raw)

    def close(self) -> None:
        self.raw.close()


class ServiceAdapter(BaseAdapter):
    """Sends over kept-alive connections, the one last used first, at most `keepalive_connections` idle per target."""

    def __init__(self, settings: ServiceSettings, name: str, worker_end: WorkerShutdown | None = None) -> None:
        super().__init__()
        self.worker_end = worker_end
        self._limits = Timeouts.of(settings)
        self._host = settings.host
        self._tls = tls_context(settings, name)
        self.idle = IdleConnections(settings.keepalive_connections, settings.keepalive_idle_seconds)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> UpstreamResponse:
        """The answer's head, its body still to be read. Time limits, TLS and Host are the service's own; `timeout` is
        how many seconds all of it may take, the body included.

        Raises the errors of `exchange`."""
        limits = self._limits if timeout is None else self._limits.within(timeout)
        return UpstreamResponse(request, *exchange(self, as_ready(request, limits, self._host)))

    def new_connection(self, target: Target, limits: Timeouts) -> UpstreamConnection:
        tls = self._tls if target.is_tls else None
        return connect(target, tls, limits.connect_seconds, limits.read_seconds)

    def close(self) -> None:
        self.idle.close_all()


class ServiceSession(requests.Session):
    """The requests session of one service: no cookies, nothing from the environment, no redirects, no own headers."""

    def __init__(self, settings: ServiceSettings, name: str, worker_end: WorkerShutdown | None = None) -> None:
        super().__init__()
        self.trust_env = False
        self.max_redirects = 0
        self.headers.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.adapters.clear()
        self._adapter = ServiceAdapter(settings, name, worker_end)
        self.mount("http://", self._adapter)
        self.mount("https://", self._adapter)

    def send_ready(self, request: ReadyRequest) -> tuple[ResponseHead, UpstreamBody]:
        """Sends a request that is complete already, past requests' preparations: the answer's head, its body still to
        be read. Raises the errors of `exchange`."""
        return exchange(self._adapter, request)

    def idle_count(self, target: Target) -> int:
        """How many connections to it are kept for further requests."""
        return self._adapter.idle.count(target)


def as_ready(request: requests.PreparedRequest, limits: Timeouts, host: str | None) -> ReadyRequest:
    """A request that requests has prepared, for callers that use the session as any other. `host` is the Host that the
    service is known by, where that is not the target's."""
    target = Target.parse(request.url or "")
    fields = [("Host", host or target.authority)]
    fields += [(name, str(value)) for name, value in request.headers.items() if name.lower() != "host"]
    body = request.body if isinstance(request.body, bytes) else (request.body or "").encode()
    return ReadyRequest(request.method or "GET", target, request.path_url, fields, body, limits)


def tls_context(settings: ServiceSettings, name: str) -> ssl.SSLContext | None:
    """Verification by the well-known authorities or the service's own, with its client certificate."""
    if not any(target.startswith("https:") for target in settings.targets):
        return None
    errors: Sequence[str] = ()
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=str(settings.ca_file) if settings.ca_file else certifi.where())
    except (OSError, ssl.SSLError) as error:
        errors = [f"services.{name}.ca_file: can't be used: {error.strerror or 'no certificate in PEM'}"]
    if settings.client_certificate_file and settings.client_key_file:
        try:
            context.load_cert_chain(settings.client_certificate_file, settings.client_key_file)
        except (OSError, ssl.SSLError) as error:
            errors = [*errors, f"services.{name}.client_certificate_file: can't be used: {error.strerror or error}"]
    if errors:
        raise ConfigurationError(errors)
    return context
