"""Checks at start that the installed libraries still behave as the gateway needs where it goes beyond their documented
interfaces. Without these checks an upgrade could switch off a part of the gateway, and nothing would say so.

`calls` lists the methods that the gateway overrides or replaces, with the function of the library that has to call
each; `behaviour` tries out what the gateway does with private attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import gateway.redis  # noqa: F401 - before others import redis with more than the gateway needs
from gateway.errors import LibraryMismatch
from gateway.library_checks import behaviour
from gateway.library_checks.calls import CALLS, check_calls, check_settings

# By the name of the package whose behaviour they check.
CHECKS: list[tuple[str, Callable[[], None]]] = [
    *((library, partial(check_calls, *call)) for library, calls in CALLS.items() for call in calls),
    ("gunicorn", check_settings),
    ("gunicorn", behaviour.check_request_parser),
    ("gevent", behaviour.check_sockets),
    ("Werkzeug", behaviour.check_responses),
    ("Flask-Limiter", behaviour.check_limiter),
    ("PyJWT", behaviour.check_tokens),
    ("redis", behaviour.check_redis_connection),
    ("prometheus_client", behaviour.check_metrics_files),
]


def check_libraries() -> None:
    """Raises LibraryMismatch with a line for each check that fails. Takes a few milliseconds."""
    mismatches = []
    for library, check in CHECKS:
        try:
            check()
        except Exception as error:
            # What is missing mostly shows as an AttributeError, whose text names it.
            reason = str(error) or type(error).__name__
            mismatches.append(f"{library} {version_of(library)}: {reason}")
    if mismatches:
        raise LibraryMismatch(list(dict.fromkeys(mismatches)))


def version_of(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "of an unknown version"
