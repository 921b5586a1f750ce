"""The last stage: adds the request id to the response. Once the response is sent, queues a record for log and
metrics."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import Response

from gateway import context
from gateway.errors import UpstreamBodyError, describe
from gateway.responses import ClosingBody, GatewayResponse, put_fields
from gateway.telemetry.request_records import RecordQueue, RequestRecord

GONE = "client_disconnected"
ABORTED = "upstream_aborted"
REQUEST_ID = frozenset(["x-request-id"])


class RequestFinish:
    """Completes responses. `clock` returns monotonic seconds, as in the exchange."""

    def __init__(self, records: RecordQueue, clock: Callable[[], float]) -> None:
        self._records = records
        self._clock = clock

    def finish(self, response: Response) -> Response:
        exchange = context.current_or_none()
        if exchange is None:
            return response
        put_fields(response.headers, [("X-Request-Id", exchange.request_id)], REQUEST_ID)
        status = response.status_code
        others = exchange.limits.seconds + (exchange.upstream_seconds or 0)
        exchange.own_seconds = self._clock() - exchange.started - others

        def close(body: ClosingBody) -> None:
            if not body.is_complete and not exchange.error_code:
                exchange.error_code = ABORTED if isinstance(body.failure, UpstreamBodyError) else GONE
                exchange.error_cause = describe(body.failure.__cause__ or body.failure) if body.failure else ""
            self._records.enqueue(RequestRecord(exchange, status, body.sent_bytes, time.time(), self._clock()))
            # An idle connection's greenlet would otherwise hold the exchange in memory until its next request.
            context.end()

        if isinstance(response, GatewayResponse):
            response.when_closed = close
        return response
