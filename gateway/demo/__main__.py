"""Runs one sample service: `python -m gateway.demo NAME PORT`, with the secret that signs tokens in the
environment variable DEMO_SECRET."""

from __future__ import annotations

import os
import sys

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from gateway.demo.auth import auth_app
from gateway.demo.resources import DEVICES, LIVESTREAMS, RULES, resource_app


def app_named(name: str) -> Flask:
    if name == "auth":
        return auth_app(os.environ["DEMO_SECRET"])
    return resource_app({"devices": DEVICES, "rules": RULES, "livestreams": LIVESTREAMS}[name])


class KeepAlive(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"


if __name__ == "__main__":
    make_server(
        "127.0.0.1", int(sys.argv[2]), app_named(sys.argv[1]), threaded=True, request_handler=KeepAlive
    ).serve_forever()
