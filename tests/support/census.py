"""The gateway with `/census`, which counts the objects of finished requests that a worker still holds."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from flask import Flask
from gevent import Greenlet

from gateway.context import Exchange

PATH = "/census"
# Beginning of the header values that are counted.
MARK = "to-be-counted-"


def census() -> dict[str, int]:
    """Counts the living objects of finished requests. `exchanges`: Exchange objects. `marked`: texts and bytes that
    begin with MARK, in any object that the garbage collector knows and in the local variables of the greenlets."""
    gc.collect()
    exchanges, marked = 0, dict[int, int]()
    known: list[Any] = gc.get_objects()
    for one in list(known):
        if type(one) is Exchange:
            exchanges += 1
        if isinstance(one, Greenlet):
            frame: FrameType | None = one.gr_frame
            while frame is not None:
                known.append(list(frame.f_locals.values()))
                frame = frame.f_back
    for one in known:
        if one is not marked:
            for part in gc.get_referents(one):
                if is_marked(part):
                    marked[id(part)] = len(part)
    return {"exchanges": exchanges, "marked": len(marked)}


def is_marked(part: Any) -> bool:
    if type(part) is str:
        return MARK in part and part != MARK
    return type(part) in (bytes, bytearray) and MARK.encode() in part


def counted_app() -> Flask:
    """The gateway's application with this route. gunicorn calls this function in each worker."""
    from wsgi import app  # noqa: PLC0415 - builds everything, which the tests themselves must not

    usual = app.wsgi_app

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PATH:
            return usual(environ, start_response)
        body = json.dumps(census()).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    app.wsgi_app = answer  # type: ignore[method-assign] # Flask's documentation says so
    return app
