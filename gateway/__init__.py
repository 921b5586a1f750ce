"""An API gateway for Python services: routes, verifies tokens, limits rates, owns CORS (see README.md).

`application.py` lists the stages that a request meets. Importing this package alone imports nothing else: gunicorn's
configuration needs `gateway.config` before it can decide whether to patch the standard library for gevent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from gateway.config import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """Builds the gateway's WSGI application from `settings`, or from the configuration in force if they are None.
    Raises ConfigurationError."""
    from gateway.application import build  # noqa: PLC0415 - see above
    from gateway.config import current  # noqa: PLC0415

    return build(settings or current())
