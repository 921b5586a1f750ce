"""A `requests.Session` for one service, and its adapter, which sends prepared requests without changing them.

A plain `requests.Session` would re-encode the path, add headers, store cookies and send them with the requests of other
clients, read proxies and passwords from the environment, and follow redirects. urllib3, which it uses, takes an interim
response for the final one and accepts malformed heads. The session here stores nothing about clients, and its adapter
speaks HTTP/1.1 by `round_trip`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import BaseAdapter

from gateway.config import ServiceSettings
from gateway.proxy.connection_pool import UpstreamConnectionPool
from gateway.proxy.http1 import ResponseHead
from gateway.proxy.response_body import ResponseBody
from gateway.proxy.round_trip import UpstreamRequest, round_trip
from gateway.proxy.target import Target
from gateway.proxy.timeouts import Timeouts
from gateway.system.shutdown import WorkerShutdown


class UpstreamResponse(requests.Response):
    """A response for callers that use the session as a plain `requests.Session`. Repeated headers are joined by commas.
    `raw` is the body."""

    def __init__(self, request: requests.PreparedRequest, head: ResponseHead, body: ResponseBody) -> None:
        super().__init__()
        self.status_code = head.status
        self.reason = head.reason
        for name, value in head.headers:
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        self.raw = body
        self.request = request
        self.url = request.url or ""

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Iterator[Any]:
        """The body in pieces as they arrive, whatever `chunk_size` is. Content codings are not decoded."""
        return iter(self.raw)

    def close(self) -> None:
        self.raw.close()


class ServiceAdapter(BaseAdapter):
    """Sends prepared requests on connections of the service's pool, with the service's own timeouts, TLS and Host."""

    def __init__(self, settings: ServiceSettings, pool: UpstreamConnectionPool) -> None:
        super().__init__()
        self._pool = pool
        self._timeouts = Timeouts.of(settings)
        self._host = settings.host

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> UpstreamResponse:
        """Sends the request. Returns the response, its body still to be read. `timeout` is in seconds, for the whole
        round trip, the response's body included. Raises the errors of `round_trip`."""
        timeouts = self._timeouts if timeout is None else self._timeouts.within(timeout)
        target = Target.parse(request.url or "")
        headers = [("Host", self._host or target.authority)]
        headers += [(name, str(value)) for name, value in request.headers.items() if name.lower() != "host"]
        body = request.body if isinstance(request.body, bytes) else (request.body or "").encode()
        ready = UpstreamRequest(request.method or "GET", target, request.path_url, headers, body, timeouts)
        return UpstreamResponse(request, *round_trip(self._pool, ready))

    def close(self) -> None:
        self._pool.close_idle()


class ServiceSession(requests.Session):
    """A `requests.Session` for one service: no cookies, nothing from the environment, no redirects, no default headers.
    `worker_shutdown` signals the shutdown, at which streams of server-sent events end."""

    def __init__(self, settings: ServiceSettings, name: str, worker_shutdown: WorkerShutdown | None = None) -> None:
        super().__init__()
        self.trust_env = False
        self.max_redirects = 0
        self.headers.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.adapters.clear()
        self._pool = UpstreamConnectionPool(settings, name)
        self._worker_shutdown = worker_shutdown
        adapter = ServiceAdapter(settings, self._pool)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def send_ready(self, request: UpstreamRequest) -> tuple[ResponseHead, ResponseBody]:
        """Sends a complete request without the preparations of the requests library, which cost 500 µs. Returns the
        response's head and its body, still to be read. Raises the errors of `round_trip`."""
        return round_trip(self._pool, request, self._worker_shutdown)

    def idle_count(self, target: Target) -> int:
        """The number of idle connections to the target."""
        return self._pool.idle_count(target)
