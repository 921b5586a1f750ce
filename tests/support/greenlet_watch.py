"""Finds greenlets that hold a worker: the watched gateway reports each one that ran too long without a switch.

CPU time of the worker's thread is measured, so that no test fails because the machine is busy.

    gateway = start_watched(start_gateway, four_services(upstream.url))
    ...  # the attack
    assert_no_greenlet_ran_long(gateway)
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import greenlet  # type: ignore[import-untyped]
from flask import Flask

from tests.support.gateway import GatewayProcess

LONGEST_RUN_SECONDS = 0.05
MARK = "A greenlet ran for"


def start_watched(
    start_gateway: Callable[..., GatewayProcess], settings: Mapping[str, Any], **options: Any
) -> GatewayProcess:
    """Starts a gateway with one worker, so that all requests of a test share its greenlets."""
    return start_gateway(settings, workers=1, application=f"{__name__}:watched_app()", **options)


def assert_no_greenlet_ran_long(gateway: GatewayProcess) -> None:
    """Fails with the reports of all greenlets that ran longer than `LONGEST_RUN_SECONDS` so far."""
    # A run is reported at its end. The worker can only respond after the current run has ended.
    assert gateway.get("/healthz").status == 200
    _, mark, reports = gateway.output().partition(MARK)
    assert not mark, (mark + reports)[:5000]


def watched_app() -> Flask:
    """The gateway's application. gunicorn calls this in each worker, whose main thread is watched from then on."""
    from wsgi import app  # noqa: PLC0415 - builds everything, which the tests themselves must not

    greenlet.settrace(Watch().switched)
    return app


class Watch:
    def __init__(self) -> None:
        # None until the first switch. Building the application takes longer than a run may take, but delays no request.
        self._began: float | None = None

    def switched(self, event: str, greenlets: tuple[greenlet.greenlet, greenlet.greenlet]) -> None:
        """Ends the measured run of one greenlet and begins that of the next. greenlet calls this after each switch."""
        ended = time.thread_time()
        if self._began is not None and ended - self._began > LONGEST_RUN_SECONDS:
            report(greenlets[0], ended - self._began, event)
            ended = time.thread_time()
        self._began = ended


def report(one: greenlet.greenlet, seconds: float, event: str) -> None:
    # The place where the greenlet stopped, which is usually in the loop that ran too long. A greenlet that has ended
    # has no frame.
    stack = "".join(traceback.format_stack(one.gr_frame)) if one.gr_frame is not None else "It has ended.\n"
    os.write(2, f"{MARK} {seconds * 1000:.0f} ms ({event}): {one!r}\n{stack}\n".encode())
