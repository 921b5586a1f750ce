"""The last stage: the request id goes onto every answer, and when the answer has gone out, it is logged."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import Response

from gateway import context
from gateway.access_log import AccessLog
from gateway.errors import UpstreamBodyError
from gateway.responses import ClosingBody, GatewayResponse
from gateway.status.recent import Recent

GONE = "client_disconnected"


class Finishing:
    """`clock` gives monotonic seconds, as the exchange's own times are."""

    def __init__(self, access_log: AccessLog, recent: Recent, clock: Callable[[], float]) -> None:
        self._access_log = access_log
        self._recent = recent
        self._clock = clock

    def finish(self, response: Response) -> Response:
        exchange = context.current_or_none()
        if exchange is None:
            return response
        response.headers["X-Request-Id"] = exchange.request_id
        status = response.status_code

        def close(body: ClosingBody) -> None:
            if not body.is_complete and not exchange.error_code:
                exchange.error_code = "upstream_aborted" if isinstance(body.failure, UpstreamBodyError) else GONE
                exchange.error_cause = repr(body.failure.__cause__ or body.failure) if body.failure else ""
            if exchange.policy is not None:
                seconds = self._clock() - exchange.started
                self._recent.observe(exchange.policy.service, status, exchange.error_code, seconds)
            self._access_log.write(exchange, status, time.time(), self._clock())

        if isinstance(response, GatewayResponse):
            response.when_closed = close
        return response
